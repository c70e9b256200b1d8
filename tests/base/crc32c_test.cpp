// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/crc32c_kernels.h"
#include "torch_accelerated/base/random_stream.h"

namespace torch_accelerated {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(std::size_t size) {
  RandomStream stream(7, 0, size);
  Bytes bytes(size);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(stream());
  return bytes;
}

std::uint32_t by_table(const std::uint8_t* data, std::size_t size) {
  return ~extend_crc32c_by_table(0xFFFFFFFF, data, size);
}

// A bit at a time, straight from the definition.
std::uint32_t by_bits(const std::uint8_t* data, std::size_t size) {
  std::uint32_t state = 0xFFFFFFFF;
  for (std::size_t i = 0; i < size; ++i) {
    state ^= data[i];
    for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ ((state & 1U) != 0 ? 0x82F63B78 : 0);
  }
  return ~state;
}

// RFC 3720, appendix B.4, and the check value of Koopman's and Williams's catalogues.
TEST(Crc32c, GivesThePublishedVectors) {
  const Bytes zeros(32, 0);
  const Bytes ones(32, 0xFF);
  Bytes rising(32);
  std::iota(rising.begin(), rising.end(), std::uint8_t{0});
  const Bytes falling(rising.rbegin(), rising.rend());
  const std::string_view digits = "123456789";
  for (const auto crc : {&by_table, +[](const std::uint8_t* data, std::size_t size) {
                           return crc32c(data, size);
                         }}) {
    EXPECT_EQ(crc(zeros.data(), 32), 0x8A9136AA);
    EXPECT_EQ(crc(ones.data(), 32), 0x62A8AB43);
    EXPECT_EQ(crc(rising.data(), 32), 0x46DD794E);
    EXPECT_EQ(crc(falling.data(), 32), 0x113FDB5C);
    EXPECT_EQ(crc(reinterpret_cast<const std::uint8_t*>(digits.data()), 9), 0xE3069283);
    EXPECT_EQ(crc(nullptr, 0), 0U);
  }
}

// Both implementations, whatever the length and wherever the bytes begin.
TEST(Crc32c, IsTheDefinitionsAtEveryLengthAndAlignment) {
  const Bytes bytes = random_bytes(320);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t size = 0; size <= 300; ++size) {
      const std::uint32_t expected = by_bits(bytes.data() + begin, size);
      ASSERT_EQ(crc32c(bytes.data() + begin, size), expected) << begin << ' ' << size;
      ASSERT_EQ(by_table(bytes.data() + begin, size), expected) << begin << ' ' << size;
    }
  }
}

// Around the lengths at which the hardware's streams begin, and beyond them.
TEST(Crc32c, IsTheDefinitionsWhereStreamsAreJoined) {
  const Bytes bytes = random_bytes(50'000);
  for (std::size_t size : {767U, 768U, 769U, 1536U, 2311U, 12'287U, 12'288U, 12'289U, 13'056U,
                           24'576U, 37'641U, 49'990U}) {
    for (std::size_t begin : {0U, 1U, 5U}) {
      const std::uint32_t expected = by_bits(bytes.data() + begin, size);
      EXPECT_EQ(crc32c(bytes.data() + begin, size), expected) << begin << ' ' << size;
      EXPECT_EQ(by_table(bytes.data() + begin, size), expected) << begin << ' ' << size;
    }
  }
}

TEST(Crc32c, PiecesDontMatter) {
  const Bytes bytes = random_bytes(30'000);
  const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
  for (std::size_t piece : {1U, 7U, 8U, 255U, 4096U, 12'289U}) {
    Crc32c crc;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      crc.update(bytes.data() + at, std::min(piece, bytes.size() - at));
      crc.update(nullptr, 0);
    }
    EXPECT_EQ(crc.value(), whole) << piece;
  }
}

TEST(Crc32c, OfTwoPartsIsCombinedFromBoth) {
  const Bytes bytes = random_bytes(20'000);
  const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
  for (std::size_t at : {0U, 1U, 2U, 100U, 4096U, 19'999U, 20'000U}) {
    const std::uint32_t first = crc32c(bytes.data(), at);
    const std::uint32_t second = crc32c(bytes.data() + at, bytes.size() - at);
    EXPECT_EQ(combine_crc32c(first, second, bytes.size() - at), whole) << at;
  }
}

}  // namespace
}  // namespace torch_accelerated
