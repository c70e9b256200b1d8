// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace torch_accelerated {

/// The SHA-256 fingerprint of bytes that arrive in any number of pieces.
///
/// @par Source  FIPS 180-4, section 6.2.
class Sha256 {
 public:
  /// Adds `size` bytes at `data`, which may be null when `size` is 0.
  void update(const void* data, std::size_t size);

  /// The fingerprint of all bytes so far, 64 lower-case hexadecimal digits; more bytes may follow.
  std::string hex_digest() const;

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                      0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<std::uint8_t, 64> pending_{};  // the first `size_ % 64` bytes count
  std::uint64_t size_ = 0;                  // bytes so far
};

}  // namespace torch_accelerated
