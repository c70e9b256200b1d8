// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/pickle_value.h"
#include "checkpoint/torch_file_text.h"

namespace torch_accelerated {

/// Reads a pickle's instructions and what stands with them. All of it throws a CheckpointError
/// where bytes are missing or beyond `PickleLimits`.
class PickleCursor {
 public:
  PickleCursor(std::string_view pickle, std::string_view file_name)
      : pickle_(pickle), file_name_(file_name) {}

  /// The next instruction, whose offset errors tell from now on.
  unsigned char opcode();

  std::string_view bytes(std::uint64_t size);
  std::string_view text(std::uint64_t size);

  /// What comes before the next line feed, which is passed over.
  std::string_view line();

  /// A number >= 0 of `size` <= 8 bytes.
  std::uint64_t number(std::size_t size);

  /// A number of any size in two's complement: a std::int64_t, or a PickleNumber where it could be
  /// none.
  PickleValue long_number(std::uint64_t size);

  /// How many bytes follow.
  std::size_t left() const { return pickle_.size() - next_; }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    refuse_torch_file(file_name_, "offset ", at_, " of its pickle: ", parts...);
  }

 private:
  std::string_view pickle_;
  std::string_view file_name_;
  std::size_t next_ = 0;
  std::size_t at_ = 0;  // where the present instruction began
};

}  // namespace torch_accelerated
