// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors_dtype.h"

namespace torch_accelerated {

/// Where a tensor's values are: in the storage of this name, from `offset` on, with `strides`
/// between them.
struct PickledTensor {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in values, as many as `shape` has sizes, none below 0
  std::string storage;
  std::uint64_t storage_bytes = 0;
  std::uint64_t offset = 0;  ///< in values
  bool requires_grad = false;

  bool operator==(const PickledTensor&) const = default;
};

/// A dict in the dict that was read.
struct PickledDict {
  std::string name;
  std::size_t tensors = 0;  ///< how many it holds itself

  bool operator==(const PickledDict&) const = default;
};

/// What a dict of tensors holds, in its order.
struct StateDictPickle {
  std::vector<PickledTensor> tensors;
  std::vector<PickledDict> dicts;
  std::vector<std::string> skipped;  ///< what is neither a tensor nor a dict: numbers, texts, lists

  bool operator==(const StateDictPickle&) const = default;
};

/// What a state dict may hold at most.
struct StateDictLimits {
  static constexpr std::size_t kTensors = 1'000'000;
  static constexpr std::size_t kNameBytes = 4096;
};

/// Reads the pickle in a file of torch.save: the dict that it holds or, with `key`, the one that
/// stands under that name in it.
///
/// Whether the tensors fit their storages is not looked at.
/// @throws CheckpointError  it is no dict or has no such key, a name that is no text or there
/// twice,
///                          and all that `read_pickle` refuses.
StateDictPickle read_state_dict_pickle(std::string_view pickle, std::string_view file_name,
                                       std::string_view key = {});

}  // namespace torch_accelerated
