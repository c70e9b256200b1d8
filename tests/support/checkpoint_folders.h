// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/output_file.h"

namespace torch_accelerated::testing {

/// Saves a checkpoint of three small files, of which `content` is one.
inline FoundCheckpoint save_checkpoint(CheckpointFolder& folder, std::int64_t update,
                                       std::string_view content,
                                       std::optional<double> metric = std::nullopt,
                                       FileIo& io = system_io()) {
  const auto checkpoint = folder.begin(update);
  Manifest manifest{.library = "0.1.0", .update = update, .metric = metric};
  for (const std::string name : {"model.safetensors", "state.json", "rank-00000.safetensors"}) {
    const auto path = checkpoint / name;
    write_new_file(io, path.string(), name == "model.safetensors" ? content : name);
    manifest.files.push_back(summed_file(path));
  }
  return folder.commit(checkpoint, manifest);
}

}  // namespace torch_accelerated::testing
