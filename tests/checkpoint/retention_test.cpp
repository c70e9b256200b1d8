// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Metrics = std::vector<std::optional<double>>;

// Committed in this order.
std::vector<FoundCheckpoint> checkpoints(const Metrics& metrics) {
  std::vector<FoundCheckpoint> all;
  for (const auto& metric : metrics) {
    const auto sequence = static_cast<std::int64_t>(all.size()) + 1;
    all.push_back({{}, {.library = "1", .sequence = sequence, .metric = metric}});
  }
  return all;
}

TEST(Retention, KeepsAllWhereNoNumberIsGiven) {
  EXPECT_THAT(to_remove(checkpoints({1, 2, 3}), {}), IsEmpty());
  EXPECT_THAT(to_remove(checkpoints({1, 2, 3}), {.keep_best = 1}), IsEmpty());
  EXPECT_THAT(to_remove({}, {.keep_newest = 0}), IsEmpty());
}

TEST(Retention, KeepsTheNewest) {
  EXPECT_THAT(to_remove(checkpoints({1, 2, 3, 4}), {.keep_newest = 2}), ElementsAre(0, 1));
  EXPECT_THAT(to_remove(checkpoints({1, 2}), {.keep_newest = 2}), IsEmpty());
  EXPECT_THAT(to_remove(checkpoints({1, 2}), {.keep_newest = 9}), IsEmpty());
}

TEST(Retention, AlwaysKeepsTheLast) {
  EXPECT_THAT(to_remove(checkpoints({1, 2, 3}), {.keep_newest = 0}), ElementsAre(0, 1));
  EXPECT_THAT(to_remove(checkpoints({1, 2, 3}), {.keep_newest = 0, .keep_best = 1}),
              ElementsAre(1));
}

TEST(Retention, KeepsWhatItsManifestSaysIsKept) {
  auto all = checkpoints({1, 2, 3, 4});
  all[1].manifest.is_kept = true;
  EXPECT_THAT(to_remove(all, {.keep_newest = 1}), ElementsAre(0, 2));
}

TEST(Retention, KeepsTheBestBesideTheNewest) {
  const auto all = checkpoints({5, 1, 4, 2, 3});
  EXPECT_THAT(to_remove(all, {.keep_newest = 1, .keep_best = 2}), ElementsAre(0, 2));
  EXPECT_THAT(to_remove(all, {.keep_newest = 1, .keep_best = 2, .lower_is_better = false}),
              ElementsAre(1, 3));
  EXPECT_THAT(to_remove(all, {.keep_newest = 2, .keep_best = 9}), IsEmpty());
}

TEST(Retention, OfTwoThatAreAsGoodTheEarlierIsBetter) {
  for (const bool lower_is_better : {true, false}) {
    EXPECT_THAT(to_remove(checkpoints({7, 7, 7, 7}),
                          {.keep_newest = 1, .keep_best = 2, .lower_is_better = lower_is_better}),
                ElementsAre(2));
  }
}

TEST(Retention, TakesNoneWithoutAFiniteMetricForTheBest) {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  const auto infinity = std::numeric_limits<double>::infinity();
  EXPECT_THAT(to_remove(checkpoints({nan, 9, std::nullopt, -infinity, std::nullopt}),
                        {.keep_newest = 1, .keep_best = 3}),
              ElementsAre(0, 2, 3));
}

TEST(Retention, GoesByTheSequenceWhateverTheOrderGiven) {
  auto all = checkpoints({1, 1, 3, 4});
  std::reverse(all.begin(), all.end());  // places 3 and 2 are the two that are as good
  EXPECT_THAT(to_remove(all, {.keep_newest = 1, .keep_best = 1}), ElementsAre(1, 2));
}

TEST(Retention, RefusesNegativeNumbers) {
  EXPECT_THROW(to_remove(checkpoints({1}), {.keep_newest = -1}), ArgumentError);
  EXPECT_THROW(to_remove(checkpoints({1}), {.keep_best = -1}), ArgumentError);
}

}  // namespace
}  // namespace torch_accelerated
