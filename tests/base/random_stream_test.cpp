// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/random_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "base/philox.h"
#include "support/statistics.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using testing::deviations_from_uniform;
using ::testing::HasSubstr;

static_assert(std::uniform_random_bit_generator<RandomStream>);

// The rows "philox4x32 10" of Random123 1.14.0, tests/kat_vectors.
TEST(Philox, GivesThePublishedVectors) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  const std::uint32_t ones = 0xFFFFFFFF;
  EXPECT_EQ(philox4x32_10({ones, ones, ones, ones}, {ones, ones}),
            (PhiloxCounter{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(
      philox4x32_10({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}),
      (PhiloxCounter{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(RandomStream, GivesTheSameNumbersForEver) {
  RandomStream stream(42, 1, 2);
  const std::vector<std::uint64_t> expected{0x291C60E337E0F5A2, 0xB640AB013CFECF69,
                                            0x6A7CF6F5328AA81F, 0x0C270CE3C8746881,
                                            0x579F7FAB028672F3, 0x0D85940C829DE72C};
  for (std::uint64_t value : expected) EXPECT_EQ(stream(), value);
}

TEST(RandomStream, IsItsBlocksOfPhilox) {
  RandomStream stream(0x299F31D0A4093822, 0x85A308D3, 0x0370734413198A2E);
  for (std::uint32_t block = 0; block < 4; ++block) {
    const PhiloxCounter bits =
        philox4x32_10({block, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0});
    EXPECT_EQ(stream(), std::uint64_t{bits[1]} << 32 | bits[0]);
    EXPECT_EQ(stream(), std::uint64_t{bits[3]} << 32 | bits[2]);
  }
}

TEST(RandomStream, EachPartOfTheKeyMakesAnotherStream) {
  std::set<std::uint64_t> first;
  std::int64_t streams = 0;
  const std::vector<std::uint64_t> parts{
      0,          1,           2,           0x7FFFFFFF,
      0xFFFFFFFF, 0x100000000, 0x200000000, std::numeric_limits<std::uint64_t>::max()};
  for (std::uint64_t seed : parts) {
    for (std::uint64_t a : parts) {
      for (std::uint64_t b : parts) {
        first.insert(RandomStream(seed, a, b)());
        ++streams;
      }
    }
  }
  EXPECT_EQ(static_cast<std::int64_t>(first.size()), streams);
}

// Half of the bits differ between neighbours, in each part of the key.
TEST(RandomStream, NeighboursAreIndependent) {
  const auto differing_share = [](auto make) {
    std::int64_t differing = 0;
    constexpr std::uint64_t kStreams = 20'000;
    for (std::uint64_t i = 0; i < kStreams; ++i) {
      differing += std::popcount(make(i)() ^ make(i + 1)());
    }
    return static_cast<double>(differing) / (64.0 * static_cast<double>(kStreams));
  };
  // 1.28 million bits have a standard deviation of 0.00044.
  EXPECT_NEAR(differing_share([](std::uint64_t i) { return RandomStream(i, 0, 0); }), 0.5, 0.0022);
  EXPECT_NEAR(differing_share([](std::uint64_t i) { return RandomStream(7, i, 0); }), 0.5, 0.0022);
  EXPECT_NEAR(differing_share([](std::uint64_t i) { return RandomStream(7, 0, i); }), 0.5, 0.0022);
}

TEST(RandomStream, UniformFillsTheUnitIntervalEvenly) {
  RandomStream stream(1);
  std::vector<std::int64_t> counts(100);
  for (int i = 0; i < 200'000; ++i) {
    const double value = stream.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++counts[static_cast<std::size_t>(value * 100)];
  }
  EXPECT_LT(deviations_from_uniform(counts), 4.0);
  for (int i = 0; i < 1'000; ++i) {
    const double value = stream.uniform(-3.0, 5.0);
    ASSERT_GE(value, -3.0);
    ASSERT_LT(value, 5.0);
  }
}

TEST(RandomStream, NormalHasTheMomentsOfTheNormalDistribution) {
  RandomStream stream(2);
  constexpr int kDraws = 400'000;
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  int within_one = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = stream.normal();
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
    within_one += std::abs(value) < 1.0 ? 1 : 0;
  }
  // Five standard deviations of each estimate.
  EXPECT_NEAR(sum / kDraws, 0.0, 0.008);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.0112);
  EXPECT_NEAR(fourth / kDraws, 3.0, 0.078);
  EXPECT_NEAR(static_cast<double>(within_one) / kDraws, 0.6827, 0.0037);
}

TEST(RandomStream, BelowIsUnbiased) {
  RandomStream stream(3);
  EXPECT_EQ(stream.below(1), 0U);
  for (std::uint64_t n : {2U, 3U, 10U, 1000U}) {
    std::vector<std::int64_t> counts(n);
    for (int i = 0; i < 100'000; ++i) {
      const std::uint64_t value = stream.below(n);
      ASSERT_LT(value, n);
      ++counts[value];
    }
    EXPECT_LT(deviations_from_uniform(counts), 4.0) << n;
  }
  // Of [0, 3 · 2^62) a plain multiplication would hit one third twice as often as the others.
  const std::uint64_t large = std::uint64_t{3} << 62;
  std::vector<std::int64_t> thirds(3);
  for (int i = 0; i < 90'000; ++i) ++thirds[stream.below(large) >> 62];
  EXPECT_LT(deviations_from_uniform(thirds), 4.0);
}

TEST(RandomStream, BelowNothingIsRefused) {
  RandomStream stream(4);
  try {
    stream.below(0);
    FAIL() << "no error";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), HasSubstr("n must be >= 1, got 0"));
  }
}

TEST(RandomStream, CopiesGoOnAlike) {
  RandomStream stream(5, 6, 7);
  stream();
  stream.normal();
  RandomStream copy = stream;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(stream.normal(), copy.normal());
}

}  // namespace
}  // namespace torch_accelerated
