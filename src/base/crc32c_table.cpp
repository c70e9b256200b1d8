// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "base/crc32c_kernels.h"
#include "base/crc32c_polynomial.h"

namespace torch_accelerated {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Table k holds the state after a byte and k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::size_t k = 0; k < tables.size(); ++k) {
    const std::uint32_t shift = crc32c_shift(k + 1);
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      tables[k][byte] = multiply_crc32c(byte, shift);
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint32_t read_word(const std::uint8_t* data) {
  return std::uint32_t{data[0]} | std::uint32_t{data[1]} << 8 | std::uint32_t{data[2]} << 16 |
         std::uint32_t{data[3]} << 24;
}

}  // namespace

/// @par Source  Kounavis and Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC
/// Generation" (2008): slicing by 8.
std::uint32_t extend_crc32c_by_table(std::uint32_t state, const std::uint8_t* data,
                                     std::size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    const std::uint32_t low = state ^ read_word(data);
    const std::uint32_t high = read_word(data + 4);
    state = kTables[7][low & 0xFF] ^ kTables[6][low >> 8 & 0xFF] ^ kTables[5][low >> 16 & 0xFF] ^
            kTables[4][low >> 24] ^ kTables[3][high & 0xFF] ^ kTables[2][high >> 8 & 0xFF] ^
            kTables[1][high >> 16 & 0xFF] ^ kTables[0][high >> 24];
  }
  for (; size > 0; --size, ++data) state = kTables[0][(state ^ *data) & 0xFF] ^ state >> 8;
  return state;
}

}  // namespace torch_accelerated
