// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace torch_accelerated {

/// Castagnoli's polynomial without x^32; bit 31 stands for x^0 and bit 0 for x^31, as in a CRC.
inline constexpr std::uint32_t kCrc32cPolynomial = 0x82F63B78;

/// The product of two polynomials over GF(2), modulo Castagnoli's.
constexpr std::uint32_t multiply_crc32c(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (; a != 0; a <<= 1) {
    if ((a >> 31) != 0) product ^= b;
    b = (b & 1U) != 0 ? (b >> 1) ^ kCrc32cPolynomial : b >> 1;
  }
  return product;
}

/// x^(8 bytes) modulo Castagnoli's polynomial: a CRC's state times it is the state after as many
/// zero bytes.
constexpr std::uint32_t crc32c_shift(std::uint64_t bytes) {
  std::uint32_t result = 1U << 31;  // x^0
  std::uint32_t power = 1U << 23;   // x^8
  for (; bytes != 0; bytes >>= 1) {
    if ((bytes & 1U) != 0) result = multiply_crc32c(result, power);
    power = multiply_crc32c(power, power);
  }
  return result;
}

}  // namespace torch_accelerated
