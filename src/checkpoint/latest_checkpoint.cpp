// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/checkpoint/latest_checkpoint.h"

#include <cmath>
#include <utility>
#include <vector>

#include "base/text.h"
#include "checkpoint/found_checkpoint.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {

namespace {

std::vector<FoundCheckpoint> usable(const std::filesystem::path& directory) {
  auto found = find_checkpoints(directory);
  for (const auto& [path, why] : found.damaged) {
    log(LogLevel::kWarning, concat("checkpoint '", path.string(), "' is passed over: ", why));
  }
  return std::move(found.committed);
}

}  // namespace

std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory) {
  const auto checkpoints = usable(directory);
  if (checkpoints.empty()) return std::nullopt;
  return checkpoints.back().path;
}

std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& directory,
                                                     Better direction) {
  std::optional<std::filesystem::path> best;
  double best_metric = 0;
  for (const auto& [path, manifest] : usable(directory)) {
    if (!manifest.metric || !std::isfinite(*manifest.metric)) continue;
    if (best && !is_better(direction, *manifest.metric, best_metric)) continue;
    best = path;
    best_metric = *manifest.metric;
  }
  return best;
}

}  // namespace torch_accelerated
