// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/file_io.h"
#include "checkpoint/manifest.h"
#include "checkpoint/tensor_reader.h"
#include "torch_accelerated/core/state.h"

namespace torch_accelerated {

/// What a checkpoint holds of a run that all its ranks have alike.
struct CheckpointContents {
  TensorDict model;  ///< in model.safetensors, by the names of parameters and buffers
  State optimizers;  ///< tensors in optimizer.safetensors, values in state.json
  State rest;        ///< tensors in state.safetensors, values in state.json
};

/// Writes the files of `contents` into the folder of a checkpoint, to the disk.
std::vector<ManifestFile> write_contents(FileIo& io, const std::filesystem::path& folder,
                                         const CheckpointContents& contents);

/// Writes what one rank alone has.
ManifestFile write_rank(FileIo& io, const std::filesystem::path& folder, int rank,
                        const TensorDict& tensors);

/// The name of the file that `write_rank` writes.
std::string rank_file(int rank);

/// A committed checkpoint that is read; what its manifest says of the files is checked first, and
/// each tensor's checksum while it is read.
///
/// All of it throws a CheckpointError that names the file and what is wrong with it, or a FileError
/// where the system can't read it.
class SavedCheckpoint {
 public:
  explicit SavedCheckpoint(std::filesystem::path folder);

  const std::filesystem::path& folder() const noexcept { return folder_; }
  const Manifest& manifest() const noexcept { return manifest_; }

  /// The values of state.json: those of `rest`, and of `optimizers` behind "optimizers/".
  const State& values() const noexcept { return values_; }

  std::unique_ptr<TensorReader> model() const;
  State optimizers() const;
  State rest() const;  ///< with the values of `optimizers`, under their longer names
  TensorDict rank(int rank) const;

 private:
  std::string path_of(const std::string& name) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  State values_;
};

}  // namespace torch_accelerated
