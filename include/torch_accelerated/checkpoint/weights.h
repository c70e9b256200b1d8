// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// How a file's names and a module's are brought together.
struct LoadWeightsOptions {
  /// Refuses a file that lacks tensors of the module, has others, or has them in other shapes.
  bool strict = true;
  std::string prefix = {};             ///< of the file's names; tensors without it aren't looked at
  std::vector<std::string> skip = {};  ///< beginnings of the module's names that stay as they are
  /// Beginnings of the file's names, behind the prefix, and what the module calls them instead; the
  /// first that fits counts.
  std::vector<std::pair<std::string, std::string>> rename = {};
  std::string key = {};  ///< of a `torch.save`d dict of state dicts, the one that is meant
};

/// What became of a module's and a file's tensors.
struct LoadReport {
  std::size_t loaded = 0;               ///< tensors of the module
  std::vector<std::string> missing;     ///< of the module, that the file lacks
  std::vector<std::string> unexpected;  ///< of the file, by their names in the module
  std::vector<std::string> mismatched;  ///< of other shapes, with both

  bool is_complete() const noexcept {
    return missing.empty() && unexpected.empty() && mismatched.empty();
  }

  /// One line, such as "12 tensors loaded; missing: 'head.weight'".
  std::string text() const;
};

/// Writes a module's parameters and buffers into a safetensors file, which replaces what was there
/// when it is whole. Python's `safetensors.torch.load_file` reads it.
///
/// A tensor under two names is written under both.
/// @throws FileError  it can't be written; what was there is there still.
void save_weights(const torch::nn::Module& module, const std::filesystem::path& file);

/// Reads a module's parameters and buffers, in place: from a safetensors file, Hugging Face's index
/// of several or the folder that holds it, or what Python's `torch.save(model.state_dict(), path)`
/// wrote. Values of another dtype are converted.
///
/// Nothing in a file is ever executed. Checksums are compared where the file carries them.
/// @throws CheckpointError  under `strict` a file that doesn't fit; all the names are told, and
///                          nothing has changed. Or a damaged one, found while its values are read.
/// @throws FileError        it can't be read.
LoadReport load_weights(torch::nn::Module& module, const std::filesystem::path& file,
                        const LoadWeightsOptions& options = {});

}  // namespace torch_accelerated
