// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "checkpoint/pickle_value.h"

namespace torch_accelerated {

/// What a pickle may use at most; more is refused before memory is taken for it.
struct PickleLimits {
  static constexpr std::size_t kBytes = std::size_t{1} << 28;
  static constexpr std::size_t kTextBytes = std::size_t{1} << 22;
  static constexpr std::size_t kGlobalBytes = 256;  ///< of a module's name, and of a name in it
  static constexpr std::size_t kStack = 1'000'000;
  static constexpr std::size_t kMarks = 256;  ///< open at a time
  static constexpr std::size_t kMemo = 8'000'000;
  static constexpr std::size_t kObjects = 8'000'000;
  static constexpr std::size_t kRank = 16;
};

/// Reads a pickle of protocol 2 to 5 that holds tensors, as torch.save writes them, in dicts, lists
/// and tuples with texts, numbers and None.
///
/// Nothing of Python's is called: of the names that a pickle may ask for, this knows what makes up
/// tensors and nothing else, and a tensor is only a note of its storage, sizes and strides (which
/// are not compared with each other). `pickle` outlives the result, whose texts point into it.
/// @throws CheckpointError  an instruction or a name that no such pickle needs, told by its name;
///                          anything malformed or beyond `PickleLimits`.
/// @par Source  Python's pickletools.py (the instructions); torch/_utils.py (_rebuild_tensor_v2).
PickleContents read_pickle(std::string_view pickle, std::string_view file_name);

}  // namespace torch_accelerated
