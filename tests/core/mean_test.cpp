// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"
#include "torch_accelerated/core/running_mean.h"

namespace tests::mean_test {
namespace {

using testing::HasSubstr;

TEST(Mean, OfASumIsTheSumOverItsWeight) {
  const ta::Mean mean(torch::full({}, 6.0), torch::full({}, 4.0));
  EXPECT_DOUBLE_EQ(mean.value().item<double>(), 1.5);
  EXPECT_FALSE(mean.is_over_rows());
}

TEST(Mean, OfWeightZeroIsZeroAndNotANumber) {
  EXPECT_EQ(ta::Mean(torch::full({}, 0.0), torch::full({}, 0)).value().item<double>(), 0.0);
}

TEST(Mean, RefusesWhatIsNoScalar) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Mean(torch::ones({32})); }),
              HasSubstr("shape [32], a scalar is wanted"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Mean(torch::Tensor()); }),
              HasSubstr("undefined"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Mean(torch::ones({}), torch::ones({2})); }),
              HasSubstr("the weight has shape [2]"));
}

TEST(Mean, LeavesItsGraphToCopiesAndToWhoHoldsItsTensor) {
  const auto held = torch::ones({}, torch::requires_grad()) * 2;
  ta::Mean mean(held);
  ta::Mean copied(held * 2);
  const ta::Mean copy = copied;
  EXPECT_FALSE(std::move(mean).detach().numerator().requires_grad());
  EXPECT_FALSE(std::move(copied).detach().numerator().requires_grad());
  EXPECT_TRUE(held.requires_grad());
  EXPECT_TRUE(copy.numerator().requires_grad());
  EXPECT_FALSE(copy.detach().numerator().requires_grad());
  EXPECT_FALSE(ta::Mean().detach().defined());
}

TEST(RunningMean, WeighsMeansByTheirRows) {
  ta::RunningMean mean;
  mean.add(ta::Mean(torch::full({}, 1.0)), 3);
  mean.add(ta::Mean(torch::full({}, 5.0)), 1);
  EXPECT_DOUBLE_EQ(mean.value(), 2.0);
  EXPECT_DOUBLE_EQ(mean.weight(), 4.0);
}

TEST(RunningMean, LeavesOutWhatWeighsNothing) {
  ta::RunningMean mean;
  const auto nan = torch::full({}, std::nan(""));
  mean.add(ta::Mean(nan), 0);
  mean.add(ta::Mean(nan, torch::zeros({})), 8);
  mean.add(ta::Mean(torch::full({}, 6.0), torch::full({}, 3.0)), 8);
  mean.add(ta::Mean(), 8);
  EXPECT_DOUBLE_EQ(mean.value(), 2.0);
}

TEST(RunningMean, OfNothingIsZero) { EXPECT_EQ(ta::RunningMean().value(), 0.0); }

}  // namespace
}  // namespace tests::mean_test
