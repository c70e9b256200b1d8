// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace torch_accelerated {

/// The CRC32C (Castagnoli) checksum of bytes that arrive in any number of pieces.
///
/// Uses the processor's own instruction where it has one, and gives the same number where not.
/// @par Source  RFC 3720, section 12.1 and appendix B.4.
class Crc32c {
 public:
  /// Adds `size` bytes at `data`, which may be null when `size` is 0.
  void update(const void* data, std::size_t size);

  /// The checksum of all bytes so far; more bytes may follow.
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xFFFFFFFF;
};

/// The CRC32C checksum of `size` bytes at `data`, which may be null when `size` is 0.
std::uint32_t crc32c(const void* data, std::size_t size);

/// The checksum of a text of two parts, from the checksums of both and the second one's bytes.
///
/// Takes time that grows with the logarithm of `size_b`, so that parts may be summed by several
/// threads.
std::uint32_t combine_crc32c(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t size_b);

}  // namespace torch_accelerated
