// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstring>

#include "base/crc32c_kernels.h"
#include "base/crc32c_polynomial.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#define TORCH_ACCELERATED_CRC32C __attribute__((target("sse4.2")))
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define TORCH_ACCELERATED_CRC32C
#endif

namespace torch_accelerated {

#ifdef TORCH_ACCELERATED_CRC32C
namespace {

TORCH_ACCELERATED_CRC32C inline std::uint64_t add_word(std::uint64_t state,
                                                       const std::uint8_t* data) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof(word));
#if defined(__x86_64__)
  return _mm_crc32_u64(state, word);
#else
  return __crc32cd(static_cast<std::uint32_t>(state), word);
#endif
}

TORCH_ACCELERATED_CRC32C inline std::uint32_t add_byte(std::uint32_t state, std::uint8_t byte) {
#if defined(__x86_64__)
  return _mm_crc32_u8(state, byte);
#else
  return __crc32cb(state, byte);
#endif
}

using ShiftTables = std::array<std::array<std::uint32_t, 256>, 4>;

// Table k holds what byte k of a state becomes after `bytes` zero bytes.
constexpr ShiftTables make_shift_tables(std::uint64_t bytes) {
  ShiftTables tables{};
  const std::uint32_t shift = crc32c_shift(bytes);
  for (std::size_t k = 0; k < tables.size(); ++k) {
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      tables[k][byte] = multiply_crc32c(byte << 8 * k, shift);
    }
  }
  return tables;
}

template <std::size_t kBytes>
constexpr ShiftTables kShiftTables = make_shift_tables(kBytes);

template <std::size_t kBytes>
std::uint64_t shifted(std::uint64_t state) {
  const ShiftTables& tables = kShiftTables<kBytes>;
  return tables[0][state & 0xFF] ^ tables[1][state >> 8 & 0xFF] ^ tables[2][state >> 16 & 0xFF] ^
         tables[3][state >> 24 & 0xFF];
}

// The instruction takes three cycles but one can begin in each: three streams side by side, of
// kBytes each, joined at the end of each round.
template <std::size_t kBytes>
TORCH_ACCELERATED_CRC32C std::uint64_t add_streams(std::uint64_t state, const std::uint8_t*& data,
                                                   std::size_t& size) {
  for (; size >= 3 * kBytes; size -= 3 * kBytes, data += 3 * kBytes) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (const std::uint8_t* at = data; at != data + kBytes; at += 8) {
      state = add_word(state, at);
      second = add_word(second, at + kBytes);
      third = add_word(third, at + 2 * kBytes);
    }
    state = shifted<kBytes>(shifted<kBytes>(state) ^ second) ^ third;
  }
  return state;
}

}  // namespace

bool has_crc32c_hardware() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2") != 0;
#else
  return true;
#endif
}

TORCH_ACCELERATED_CRC32C std::uint32_t extend_crc32c_by_hardware(std::uint32_t state,
                                                                 const std::uint8_t* data,
                                                                 std::size_t size) {
  std::uint64_t wide = add_streams<4096>(state, data, size);
  wide = add_streams<256>(wide, data, size);
  for (; size >= 8; size -= 8, data += 8) wide = add_word(wide, data);
  state = static_cast<std::uint32_t>(wide);
  for (; size > 0; --size, ++data) state = add_byte(state, *data);
  return state;
}

#else

bool has_crc32c_hardware() { return false; }

std::uint32_t extend_crc32c_by_hardware(std::uint32_t state, const std::uint8_t* data,
                                        std::size_t size) {
  return extend_crc32c_by_table(state, data, size);
}

#endif

}  // namespace torch_accelerated
