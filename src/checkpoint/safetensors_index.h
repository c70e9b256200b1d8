// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// Which tensor is in which file, where a model's tensors are in several: the shards.
struct SafetensorsIndex {
  struct Tensor {
    std::string name;
    std::size_t shard = 0;  ///< position in `shards`

    bool operator==(const Tensor&) const = default;
  };

  std::vector<std::string> shards;  ///< names of files in the index's own folder, each once
  std::vector<Tensor> tensors;      ///< each once; both in the order of the index

  bool operator==(const SafetensorsIndex&) const = default;
};

/// What an index may hold at most, besides the `SafetensorsLimits` of names and their number.
inline constexpr std::uint64_t kSafetensorsIndexBytes = std::uint64_t{1} << 26;

/// Reads the text of a Hugging Face index: an object of which "weight_map" is looked at, an object
/// of tensors and the names of their shards.
///
/// A shard's name is <stem>-<number>-of-<count>.safetensors, the same stem and count in all and the
/// number from 1 to the count, both of 5 to 9 digits; so it can't lead out of the index's folder.
/// @throws DataError  anything else; the text names the file.
/// @par Source  huggingface.co/docs/transformers, "Loading models", "Sharded checkpoints".
SafetensorsIndex parse_safetensors_index(std::string_view json, std::string_view file_name);

}  // namespace torch_accelerated
