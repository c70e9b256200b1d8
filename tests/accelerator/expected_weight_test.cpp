// SPDX-License-Identifier: Apache-2.0
// E, the weight that a window is expected to have: its rows times a power of two that the first
// update fixes.
#include "accelerator/expected_weight.h"

#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <limits>
#include <thread>

#include "support/tiny.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests::expected_weight_test {
namespace {

// E of a window that begins with such a micro-batch.
double window_of(ta::ExpectedWeight& expected, const ta::WindowPosition& position,
                 std::optional<double> weight) {
  expected.begin(position, weight);
  const double value = expected.value();
  expected.end_window();
  return value;
}

TEST(ExpectedWeight, IsTheRowsTimesThePowerOfTwoNextToTheFirstLossesWeightOfARow) {
  ta::ExpectedWeight expected(nullptr);
  EXPECT_TRUE(expected.wants_weight());
  EXPECT_EQ(window_of(expected, {.rows = 3}, 100), 3 * 32);  // 33.3 tokens a row
  EXPECT_FALSE(expected.wants_weight());
}

TEST(ExpectedWeight, StaysAtThatPowerInLaterUpdates) {
  ta::ExpectedWeight expected(nullptr);
  window_of(expected, {.rows = 3}, 100);
  for (const double weight : {0.001, 1.0, 100.0, 1e9}) {
    EXPECT_EQ(window_of(expected, {.rows = 3}, weight), 3 * 32);
    EXPECT_EQ(window_of(expected, {.rows = 7}, weight), 7 * 32);
  }
}

TEST(ExpectedWeight, StaysWithinAWindow) {
  ta::ExpectedWeight expected(nullptr);
  expected.begin({.rows = 3, .micro_batches = 2}, 100);
  EXPECT_EQ(expected.value(), 6 * 32);
  expected.begin({.rows = 5, .micro_batches = 2}, 7);
  EXPECT_EQ(expected.value(), 6 * 32);
}

TEST(ExpectedWeight, CountsTheRowsOfTheWindowWhereTheyAreKnown) {
  ta::ExpectedWeight expected(nullptr);
  EXPECT_EQ(window_of(expected, {.rows = 3, .window_rows = 8, .micro_batches = 3}, 100), 8 * 32);
  EXPECT_EQ(window_of(expected, {.rows = 2, .window_rows = 5, .micro_batches = 3}, 9), 5 * 32);
}

TEST(ExpectedWeight, TakesTheFirstMicroBatchForAllWhereTheRowsAreNotKnown) {
  ta::ExpectedWeight expected(nullptr);
  EXPECT_EQ(window_of(expected, {.rows = 3, .micro_batches = 4}, 100), 12 * 32);
}

TEST(ExpectedWeight, IsAPowerOfTwoThatIsNoFartherThanHalfAStepForAnyWeight) {
  for (double weight = 1e-6; weight < 1e6; weight *= 1.37) {
    ta::ExpectedWeight expected(nullptr);
    const double scale = window_of(expected, {.rows = 3}, weight) / 3;
    int exponent = 0;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5) << weight;
    EXPECT_LE(std::abs(std::log2(weight / 3 / scale)), 0.5 + 1e-12) << weight;
  }
}

TEST(ExpectedWeight, OfMeansOverRowsIsTheRows) {
  ta::ExpectedWeight expected(nullptr);
  EXPECT_EQ(window_of(expected, {.rows = 3}, std::nullopt), 3);
  EXPECT_EQ(window_of(expected, {.rows = 3, .window_rows = 7, .micro_batches = 3}, std::nullopt),
            7);
  EXPECT_TRUE(expected.wants_weight()) << "rows fix nothing";
  EXPECT_EQ(window_of(expected, {.rows = 3}, 100), 3 * 32);
}

TEST(ExpectedWeight, OfAWeightThatIsNotFiniteIsTheRows) {
  ta::ExpectedWeight expected(nullptr);
  EXPECT_EQ(window_of(expected, {.rows = 3}, std::numeric_limits<double>::infinity()), 3);
}

// What two ranks come to, each with a first and a second window of these rows and weights.
struct Part {
  std::int64_t rows;
  std::optional<double> weight;
};
std::array<std::vector<double>, 2> of_two_ranks(const std::array<std::vector<Part>, 2>& windows) {
  const auto communicators = ta::make_thread_communicators(2);
  std::array<std::vector<double>, 2> values;
  const auto rank = [&](std::size_t index) {
    ta::ExpectedWeight expected(communicators[index].get());
    for (const auto& [rows, weight] : windows[index]) {
      values[index].push_back(window_of(expected, {.rows = rows}, weight));
    }
  };
  std::thread other([&] { rank(1); });
  rank(0);
  other.join();
  return values;
}

TEST(ExpectedWeight, IsOneNumberOnAllRanksAndStaysIt) {
  const std::vector<double> all{8 * 32, 8 * 32};
  EXPECT_THAT(of_two_ranks({{{{3, 100}, {3, 1}}, {{5, 7}, {2, 900}}}}),
              testing::Each(testing::Eq(all)));
}

// Else a resumed run would round its gradients otherwise than the uninterrupted one.
TEST(ExpectedWeight, StaysItWhereARunIsGoneOnWith) {
  ta::ExpectedWeight first(nullptr);
  first.begin({.rows = 3, .window_rows = 3, .micro_batches = 1}, 100.0);
  ta::ExpectedWeight resumed(nullptr);
  resumed.load_state(first.state());
  for (auto* weight : {&first, &resumed}) {
    weight->end_window();
    weight->begin({.rows = 3, .window_rows = 3, .micro_batches = 1}, 7.0);
  }
  EXPECT_EQ(resumed.value(), first.value());
  EXPECT_THROW(resumed.load_state(ta::State().set("rows", -1.0)), ta::StateError);
}

TEST(ExpectedWeight, IsThatOfTheFirstRankThatHasAny) {
  const std::vector<double> all{3 * 32, 3 * 32};
  EXPECT_THAT(of_two_ranks({{{{0, std::nullopt}, {5, 1}}, {{3, 100}, {3, 100}}}}),
              testing::Each(testing::Eq(all)));
}

}  // namespace
}  // namespace tests::expected_weight_test
