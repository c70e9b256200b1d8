// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"

namespace torch_accelerated {

/// A committed checkpoint.
struct FoundCheckpoint {
  std::filesystem::path path;
  Manifest manifest;
};

/// The checkpoints in a directory.
struct FoundCheckpoints {
  std::vector<FoundCheckpoint> committed;                              ///< in the order of commit
  std::vector<std::pair<std::filesystem::path, std::string>> damaged;  ///< which, and why
};

/// The committed checkpoints in `directory`; none where there is no such directory. Links in it and
/// names that aren't a checkpoint's are passed over. The checkpoints' files aren't looked at.
///
/// @throws FileError  the directory can't be read.
FoundCheckpoints find_checkpoints(const std::filesystem::path& directory);

/// What the checkpoint at `path` says of itself, whatever its folder is named.
///
/// @throws CheckpointError  it isn't committed, or its manifest is damaged.
/// @throws FileError        its manifest can't be read.
Manifest read_manifest(const std::filesystem::path& path);

/// The folders in `directory` with a checkpoint's name, committed or not, in no order; none where
/// there is no such directory.
///
/// @throws FileError  the directory can't be read.
std::vector<std::filesystem::path> checkpoint_folders(const std::filesystem::path& directory);

/// The name, size and CRC32C of a file, by reading it.
///
/// @throws FileError  it can't be read.
ManifestFile summed_file(const std::filesystem::path& path);

/// Compares the checkpoint's files with its manifest: that each is there with its size and, where
/// `contents` is set, with its CRC32C. Other files aren't looked at.
///
/// @throws CheckpointError  the first difference; the text names the file and what is wrong.
void check_files(const FoundCheckpoint& checkpoint, bool contents);

}  // namespace torch_accelerated
