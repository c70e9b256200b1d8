// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/checkpoint/latest_checkpoint.h"

#include "base/text.h"
#include "checkpoint/found_checkpoint.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {

std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory) {
  const auto found = find_checkpoints(directory);
  for (const auto& [path, why] : found.damaged) {
    log(LogLevel::kWarning, concat("checkpoint '", path.string(), "' is passed over: ", why));
  }
  if (found.committed.empty()) return std::nullopt;
  return found.committed.back().path;
}

}  // namespace torch_accelerated
