// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/undamaged_checkpoint.h"

#include <string>

#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/found_checkpoint.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {
namespace {

// What is wrong with it, empty where nothing is; `sequence` is set where it could be read.
std::string damage_of(const std::filesystem::path& checkpoint, std::int64_t& sequence) {
  try {
    const auto manifest = read_manifest(checkpoint);
    sequence = manifest.sequence;
    check_files({checkpoint, manifest}, /*contents=*/true);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

std::filesystem::path newest_undamaged(const std::filesystem::path& given) {
  const auto whole = std::filesystem::absolute(given).lexically_normal();
  auto checkpoint = whole.has_filename() ? whole : whole.parent_path();
  auto before = kLargestNumber;
  const auto first = damage_of(checkpoint, before);
  if (first.empty()) return checkpoint;
  const auto name = parse_checkpoint_folder_name(checkpoint.filename().string());
  if (!name || !std::filesystem::is_directory(checkpoint)) throw CheckpointError(first);
  log(LogLevel::kWarning, "resume_from: " + first);
  const auto found = find_checkpoints(checkpoint.parent_path());
  for (auto earlier = found.committed.rbegin(); earlier != found.committed.rend(); ++earlier) {
    // Where the manifest can't tell when it was committed, its name tells at least of what.
    const bool is_earlier = before < kLargestNumber ? earlier->manifest.sequence < before
                                                    : earlier->manifest.update <= name->update;
    if (!is_earlier) continue;
    std::int64_t sequence = 0;
    const auto damage = damage_of(earlier->path, sequence);
    log(LogLevel::kWarning,
        "resume_from: " + (damage.empty() ? "going on from " + earlier->path.string() : damage));
    if (damage.empty()) return earlier->path;
  }
  throw CheckpointError(concat(first, "; there is no undamaged one before it either"));
}

}  // namespace torch_accelerated
