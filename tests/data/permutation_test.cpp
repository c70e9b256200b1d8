// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/permutation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "support/statistics.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using testing::deviations_from_uniform;
using ::testing::HasSubstr;

std::vector<std::int64_t> order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  const KeyedPermutation permutation(size, seed, epoch);
  std::vector<std::int64_t> numbers;
  numbers.reserve(static_cast<std::size_t>(size));
  for (std::int64_t position = 0; position < size; ++position) {
    numbers.push_back(permutation(position));
  }
  return numbers;
}

void expect_each_number_once(std::int64_t size, std::uint64_t seed) {
  std::vector<std::int64_t> numbers = order(size, seed, 1);
  std::sort(numbers.begin(), numbers.end());
  for (std::int64_t i = 0; i < size; ++i) {
    ASSERT_EQ(numbers[static_cast<std::size_t>(i)], i) << "size " << size << " seed " << seed;
  }
}

TEST(KeyedPermutation, HoldsEachNumberOnce) {
  for (std::int64_t size = 1; size <= 300; ++size) {
    for (std::uint64_t seed : {0U, 1U, 99U}) expect_each_number_once(size, seed);
  }
  for (std::int64_t size : {1000, 1023, 1024, 1025, 10007, 60000, 65536, 65537}) {
    expect_each_number_once(size, 5);
  }
}

TEST(KeyedPermutation, ReadsManyPositionsAsOneByOne) {
  for (const std::int64_t size : {1, 2, 9, 33, 1000, 17'633}) {
    const auto expected = order(size, 4, 2);
    const KeyedPermutation permutation(size, 4, 2);
    for (const std::int64_t count : {1, 3, 8, 9, 32, 1000}) {
      for (std::int64_t first = 0; first + count <= size;
           first += std::max<std::int64_t>(1, size / 7)) {
        std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
        permutation.read(first, numbers);
        EXPECT_TRUE(std::equal(numbers.begin(), numbers.end(), expected.begin() + first))
            << size << ' ' << first << ' ' << count;
      }
    }
    permutation.read(0, {});
  }
  std::vector<std::int64_t> numbers(3);
  EXPECT_THROW(KeyedPermutation(9, 0, 0).read(7, numbers), ArgumentError);
  EXPECT_THROW(KeyedPermutation(9, 0, 0).read(-1, numbers), ArgumentError);
}

// Hashes of whole runs depend on these numbers: they never change.
TEST(KeyedPermutation, KeepsItsOrderForEver) {
  struct Golden {
    std::int64_t size;
    std::uint64_t seed;
    std::int64_t epoch;
    std::array<std::int64_t, 10> first;
  };
  const std::vector<Golden> goldens{
      {10, 0, 0, {2, 5, 4, 6, 0, 9, 7, 8, 3, 1}},
      {10, 0, 1, {6, 4, 7, 8, 3, 2, 9, 1, 0, 5}},
      {1000, 7, 3, {903, 548, 95, 843, 284, 540, 11, 590, 841, 60}},
      {60000, 42, 0, {16122, 14521, 15493, 41396, 25683, 17507, 43274, 16076, 41580, 20873}},
      {60000, 42, 1, {12992, 13277, 2455, 36873, 17697, 44438, 19689, 57403, 50387, 17320}},
      {1'000'000'000'000,
       1234567890123456789,
       1000,
       {41569635543, 607580402096, 58428966058, 930374405406, 661002226409, 956302894531,
        669726783630, 178461827925, 215003570845, 621572878327}},
  };
  for (const Golden& golden : goldens) {
    const KeyedPermutation permutation(golden.size, golden.seed, golden.epoch);
    for (std::size_t i = 0; i < golden.first.size(); ++i) {
      EXPECT_EQ(permutation(static_cast<std::int64_t>(i)), golden.first[i])
          << "size " << golden.size << ", position " << i;
    }
  }
}

TEST(KeyedPermutation, DiffersBetweenSeedsAndEpochs) {
  const auto base = order(1000, 7, 3);
  EXPECT_EQ(base, order(1000, 7, 3));
  for (const auto& other : {order(1000, 8, 3), order(1000, 7, 4), order(1000, 3, 7)}) {
    std::int64_t in_place = 0;
    for (std::size_t i = 0; i < base.size(); ++i) in_place += base[i] == other[i] ? 1 : 0;
    EXPECT_LT(in_place, 10);  // 1 is expected
  }
}

TEST(KeyedPermutation, PutsANumberAnywhereEquallyOften) {
  for (std::int64_t size : {2, 3, 5, 7, 16, 17, 37, 100, 1000}) {
    std::vector<std::int64_t> first(static_cast<std::size_t>(size));
    std::vector<std::int64_t> last(first.size());
    const std::int64_t seeds = 100 * size;
    for (std::int64_t seed = 0; seed < seeds; ++seed) {
      const KeyedPermutation permutation(size, static_cast<std::uint64_t>(seed), 0);
      ++first[static_cast<std::size_t>(permutation(0))];
      ++last[static_cast<std::size_t>(permutation(size - 1))];
    }
    EXPECT_LT(deviations_from_uniform(first), 4.0) << size;
    EXPECT_LT(deviations_from_uniform(last), 4.0) << size;
  }
}

TEST(KeyedPermutation, MakesAllOrdersOfFiveEquallyLikely) {
  std::vector<std::int64_t> counts(120);
  for (std::uint64_t seed = 0; seed < 60'000; ++seed) {
    const std::vector<std::int64_t> numbers = order(5, seed, 0);
    std::size_t rank = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      std::size_t smaller_later = 0;
      for (std::size_t j = i + 1; j < numbers.size(); ++j) {
        smaller_later += numbers[j] < numbers[i] ? 1U : 0U;
      }
      rank = rank * (numbers.size() - i) + smaller_later;
    }
    ++counts[rank];
  }
  EXPECT_LT(deviations_from_uniform(counts), 4.0);
}

// Neighbouring positions hold unrelated numbers: their distance is that of two draws.
TEST(KeyedPermutation, ScattersNeighbours) {
  constexpr std::int64_t kSize = 60'000;
  const std::vector<std::int64_t> numbers = order(kSize, 11, 0);
  std::vector<std::int64_t> gaps(60);
  for (std::size_t i = 0; i + 1 < numbers.size(); ++i) {
    const std::int64_t gap = (numbers[i + 1] - numbers[i] + kSize) % kSize;
    ++gaps[static_cast<std::size_t>(gap * 60 / kSize)];
  }
  EXPECT_LT(deviations_from_uniform(gaps), 4.0);
}

TEST(KeyedPermutation, TakesVeryLargeSizes) {
  const std::int64_t size = std::numeric_limits<std::int64_t>::max();
  const KeyedPermutation permutation(size, 1, 0);
  for (std::int64_t position : {std::int64_t{0}, std::int64_t{1}, size / 2, size - 1}) {
    EXPECT_GE(permutation(position), 0);
    EXPECT_LT(permutation(position), size);
  }
}

TEST(KeyedPermutation, RefusesWhatIsNoOrder) {
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message([] { KeyedPermutation(0, 1, 0); }), HasSubstr("size must be >= 1, got 0"));
  EXPECT_THAT(message([] { KeyedPermutation(-3, 1, 0); }), HasSubstr("got -3"));
  EXPECT_THAT(message([] { KeyedPermutation(3, 1, -1); }), HasSubstr("epoch must be >= 0, got -1"));
  EXPECT_THAT(message([] { KeyedPermutation(3, 1, 0)(3); }), HasSubstr("in [0, 3), got 3"));
  EXPECT_THAT(message([] { KeyedPermutation(3, 1, 0)(-1); }), HasSubstr("got -1"));
}

}  // namespace
}  // namespace torch_accelerated
