// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/metrics/accuracy.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::accuracy_test {
namespace {

using testing::HasSubstr;

const auto kScores = [] {
  return torch::tensor({{0.1, 0.7, 0.2}, {0.5, 0.3, 0.2}, {0.1, 0.2, 0.7}, {0.4, 0.35, 0.25}});
};
const auto kClasses = [] { return torch::tensor({1, 1, 2, 2}, torch::kInt64); };

TEST(Accuracy, CountsRowsWhoseBestScoreIsTheirClass) {
  const auto mean = ta::accuracy()({{"output", kScores()}}, {{"target", kClasses()}});
  EXPECT_EQ(mean.numerator().item<std::int64_t>(), 2);
  EXPECT_EQ(mean.weight().item<std::int64_t>(), 4);
}

TEST(Accuracy, CountsTheTopK) {
  const auto mean = ta::accuracy({.top_k = 2})({{"output", kScores()}}, {{"target", kClasses()}});
  EXPECT_EQ(mean.numerator().item<std::int64_t>(), 3);
}

TEST(Accuracy, RefusesWhatDoesNotFit) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::accuracy({.top_k = 0}); }),
              HasSubstr("got 0"));
  EXPECT_THAT(message_of<ta::ArgumentError>(
                  [] { ta::accuracy()({{"output", kScores()}}, {{"target", torch::ones({3})}}); }),
              HasSubstr("scores have shape [4, 3], classes [3]"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] {
                ta::accuracy({.top_k = 4})({{"output", kScores()}}, {{"target", kClasses()}});
              }),
              HasSubstr("only 3 classes"));
}

}  // namespace
}  // namespace tests::accuracy_test
