// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.h"
#include "checkpoint/safetensors_text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

/// Ends every error about a file that holds more than tensors.
inline constexpr std::string_view kTorchSaveCure =
    "write it again with torch.save(model.state_dict(), path)";

/// Refuses a file of torch.save.
template <class... Parts>
[[noreturn]] void refuse_torch_file(std::string_view file_name, const Parts&... parts) {
  throw CheckpointError(concat("torch.save file '", file_name, "': ", parts...));
}

/// The number of `size` <= 8 bytes at `at`, the least first; the caller has checked that they are
/// there.
inline std::uint64_t little_endian(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = size; i > 0; --i) {
    number = number << 8 | static_cast<unsigned char>(bytes[at + i - 1]);
  }
  return number;
}

}  // namespace torch_accelerated
