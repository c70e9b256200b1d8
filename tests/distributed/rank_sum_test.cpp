// SPDX-License-Identifier: Apache-2.0
#include "distributed/rank_sum.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <random>
#include <vector>

namespace tests::rank_sum_test {
namespace {

namespace ta = torch_accelerated;

constexpr std::size_t kGuards = 70;  // numbers behind each array that nobody may touch

/// One array for each rank, each beginning at another place of a cache line.
template <class Number>
struct Arrays {
  Arrays(std::size_t ranks, std::size_t length, std::mt19937_64& random) : count(length) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const auto offset = random() % 9;
      auto& numbers = memory.emplace_back(offset + length + kGuards, Number(77));
      for (std::size_t i = 0; i < length; ++i) {
        numbers[offset + i] = static_cast<Number>(static_cast<double>(random() % 2001) / 7.0);
      }
    }
    for (auto& numbers : memory)
      parts.push_back(numbers.data() + numbers.size() - length - kGuards);
  }
  std::vector<Number> plain_sum() const {
    std::vector<Number> sums(parts[0], parts[0] + count);
    for (std::size_t rank = 1; rank < parts.size(); ++rank) {
      for (std::size_t i = 0; i < count; ++i) {
        sums[i] = static_cast<Number>(sums[i] + parts[rank][i]);
      }
    }
    return sums;
  }
  std::vector<Number> numbers_of(std::size_t rank) const {
    return {parts[rank], parts[rank] + count};
  }
  bool has_guards(std::size_t rank) const {
    const std::vector<Number> guards(parts[rank] + count, parts[rank] + count + kGuards);
    return guards == std::vector<Number>(kGuards, Number(77));
  }

  std::size_t count;
  std::vector<std::vector<Number>> memory;
  std::vector<Number*> parts;
};

template <class Number>
void check_sums(c10::ScalarType dtype) {
  std::mt19937_64 random(5);
  for (const std::size_t ranks : {1, 2, 3, 5, 8}) {
    for (const std::size_t count : {0, 1, 3, 15, 16, 17, 63, 64, 65, 127, 1'000, 5'003}) {
      Arrays<Number> arrays(ranks, count, random);
      const auto expected = arrays.plain_sum();
      const std::vector<const void*> parts(arrays.parts.begin(), arrays.parts.end());
      // First apart, to two arrays; then in place, to all.
      std::vector<Number> first(count + 1, Number(77)), second(count + 1, Number(77));
      void* const apart[] = {first.data(), second.data()};
      const auto signed_count = static_cast<std::int64_t>(count);
      ta::detail::sum_over_ranks(apart, parts, signed_count, dtype, ta::SumOrder::kRankOrder);
      EXPECT_EQ(first.back(), Number(77));
      first.pop_back();
      second.pop_back();
      EXPECT_EQ(first, expected) << dtype << " " << ranks << " ranks " << count;
      EXPECT_EQ(second, expected);
      const std::vector<void*> outs(arrays.parts.begin(), arrays.parts.end());
      ta::detail::sum_over_ranks(outs, parts, signed_count, dtype, ta::SumOrder::kRankOrder);
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(arrays.numbers_of(rank), expected) << dtype << " " << ranks << " ranks " << count;
        EXPECT_TRUE(arrays.has_guards(rank));
      }
    }
  }
}

TEST(RankSum, IsThePlainLoop) {
  check_sums<float>(torch::kFloat32);
  check_sums<double>(torch::kFloat64);
  check_sums<std::uint8_t>(torch::kUInt8);
  check_sums<std::int8_t>(torch::kInt8);
  check_sums<std::int16_t>(torch::kInt16);
  check_sums<std::int32_t>(torch::kInt32);
  check_sums<std::int64_t>(torch::kInt64);
}

TEST(RankSum, OrdersDifferInBits) {
  // (1 + 2^-24) is 1 in float32, and 2^-24 + 2^-24 isn't lost when it is added first.
  const float tiny = 0x1p-24F;
  const float parts[] = {1, tiny, tiny, tiny};
  const void* const pointers[] = {&parts[0], &parts[1], &parts[2], &parts[3]};
  float sum = 0;
  ta::detail::sum_over_ranks(&sum, pointers, 1, torch::kFloat32, ta::SumOrder::kRankOrder);
  EXPECT_EQ(sum, 1);
  ta::detail::sum_over_ranks(&sum, pointers, 1, torch::kFloat32, ta::SumOrder::kPairwise);
  EXPECT_EQ(sum, 1 + 2 * tiny);
}

TEST(RankSum, HalvesAreRoundedOnce) {
  // In float16 each 2049th part would be lost: 2048 + 1 is 2048 there.
  const c10::Half parts[] = {2048.0F, 1.0F, 1.0F};
  const void* const pointers[] = {&parts[0], &parts[1], &parts[2]};
  c10::Half sum = 0;
  ta::detail::sum_over_ranks(&sum, pointers, 1, torch::kFloat16, ta::SumOrder::kRankOrder);
  EXPECT_EQ(static_cast<float>(sum), 2050.0F);
}

TEST(RankSum, IntegersWrapAround) {
  const std::int32_t parts[] = {2'147'483'647, 1};
  const void* const pointers[] = {&parts[0], &parts[1]};
  std::int32_t sum = 0;
  ta::detail::sum_over_ranks(&sum, pointers, 1, torch::kInt32, ta::SumOrder::kRankOrder);
  EXPECT_EQ(sum, -2'147'483'647 - 1);
}

TEST(RankSum, RefusesBooleans) {
  const bool parts[] = {true};
  const void* const pointers[] = {&parts[0]};
  bool sum = false;
  EXPECT_THROW(
      ta::detail::sum_over_ranks(&sum, pointers, 1, torch::kBool, ta::SumOrder::kRankOrder),
      ta::ArgumentError);
}

}  // namespace
}  // namespace tests::rank_sum_test
