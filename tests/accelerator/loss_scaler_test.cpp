// SPDX-License-Identifier: Apache-2.0
// How the scale of fp16 losses moves, and that nothing else sees it.
#include "accelerator/loss_scaler.h"

#include <gmock/gmock.h>

#include <limits>

#include "support/tiny.h"

namespace tests::loss_scaler_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

ta::LossScaler make_scaler(const ta::LossScaling& options) { return {options, c10::kCPU}; }

std::vector<torch::Tensor> finite() { return {torch::full({3}, 8.0F), torch::full({2}, -4.0F)}; }
std::vector<torch::Tensor> overflowed() { return {torch::ones({3}), torch::full({2}, kInfinity)}; }

TEST(LossScaler, TakesTheScaleOutOfAllGradients) {
  auto scaler = make_scaler({.initial_scale = 4});
  const auto gradients = finite();
  EXPECT_TRUE(scaler.unscale(gradients));
  EXPECT_TRUE(torch::equal(gradients[0], torch::full({3}, 2.0F)));
  EXPECT_TRUE(torch::equal(gradients[1], torch::full({2}, -1.0F)));
}

TEST(LossScaler, FallsWhereAGradientOverflowsAndGrowsAfterManyThatDidnt) {
  auto scaler = make_scaler({.initial_scale = 64, .growth_interval = 3});
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_EQ(scaler.scale(), 32);
  EXPECT_TRUE(scaler.unscale(finite()));
  EXPECT_TRUE(scaler.unscale(finite()));
  EXPECT_FALSE(scaler.unscale(overflowed())) << "and the count begins anew";
  EXPECT_EQ(scaler.scale(), 16);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(scaler.scale(), 16);
    EXPECT_TRUE(scaler.unscale(finite()));
  }
  EXPECT_EQ(scaler.scale(), 32);
}

TEST(LossScaler, ANanIsAnOverflowToo) {
  auto scaler = make_scaler({.initial_scale = 64});
  EXPECT_FALSE(scaler.unscale({torch::full({1}, std::numeric_limits<float>::quiet_NaN())}));
  EXPECT_EQ(scaler.scale(), 32);
}

TEST(LossScaler, GivesUpAfterSoManySkipsInARowAtTheSmallestScale) {
  auto scaler = make_scaler({.initial_scale = 3, .minimum_scale = 1, .skips_at_minimum = 3});
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_EQ(scaler.scale(), 1.5);
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_EQ(scaler.scale(), 1) << "not below the minimum";
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_TRUE(scaler.unscale(finite()));
  EXPECT_FALSE(scaler.unscale(overflowed())) << "not in a row";
  EXPECT_FALSE(scaler.unscale(overflowed()));
  EXPECT_THAT(message_of<ta::NumericError>([&] { scaler.unscale(overflowed()); }),
              AllOf(HasSubstr("3 updates in a row at a loss scale of 1"), HasSubstr("kBf16")));
}

TEST(LossScaler, GoesOnFromItsState) {
  const ta::LossScaling options{.initial_scale = 64, .growth_interval = 3, .skips_at_minimum = 2};
  auto scaler = make_scaler(options);
  scaler.unscale(overflowed());
  scaler.unscale(finite());
  scaler.unscale(finite());
  auto other = make_scaler(options);
  other.load_state(scaler.state());
  EXPECT_EQ(other.scale(), 32);
  other.unscale(finite());
  EXPECT_EQ(other.scale(), 64) << "two of three had been counted";
}

TEST(LossScaler, RefusesAStateThatIsNone) {
  auto scaler = make_scaler({});
  auto state = scaler.state();
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    state.set("scale", bad);
    EXPECT_THAT(message_of<ta::StateError>([&] { scaler.load_state(state); }),
                HasSubstr("the loss scale is"));
  }
  EXPECT_EQ(scaler.scale(), 65536);
}

TEST(LossScaler, AHalfPrecisionLossDoesntOverflowByItsScale) {
  const auto scaler = make_scaler({.initial_scale = 65536});
  const auto loss = scaler.scaled(torch::full({}, 3.0, torch::kHalf));
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_EQ(loss.item<double>(), 3.0 * 65536);
  EXPECT_EQ(scaler.scaled(torch::ones({}, torch::kFloat64)).scalar_type(), torch::kFloat64);
}

TEST(LossScaling, WrongOptionsAreToldAtOnce) {
  const auto text = message_of<ta::ArgumentError>([] {
    ta::Accelerator({.device = "cpu",
                     .mixed_precision = ta::MixedPrecision::kFp16,
                     .loss_scaling = {.initial_scale = -2,
                                      .growth_factor = 0.5,
                                      .backoff_factor = 1,
                                      .growth_interval = 0,
                                      .minimum_scale = 0,
                                      .skips_at_minimum = 0}});
  });
  EXPECT_THAT(text, AllOf(HasSubstr("initial_scale must be a number > 0, got -2"),
                          HasSubstr("growth_factor must be >= 1, got 0.5"),
                          HasSubstr("backoff_factor must be between 0 and 1, got 1"),
                          HasSubstr("growth_interval must be 1 to 2147483647, got 0"),
                          HasSubstr("minimum_scale must be a number > 0, got 0"),
                          HasSubstr("skips_at_minimum must be >= 1, got 0")));
}

}  // namespace
}  // namespace tests::loss_scaler_test
