// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/cosine.h"

#include <gmock/gmock.h>

#include <numbers>

#include "support/tiny.h"

namespace tests::cosine_test {
namespace {

using testing::HasSubstr;

constexpr ta::CosineOptions kWhole{
    .warmup_updates = 10, .min_rate = 0.01, .cooldown_updates = 5, .total_updates = 100};

TEST(CosineRate, FollowsItsFormula) {
  for (std::int64_t update = 10; update < 95; ++update) {
    const double t = static_cast<double>(update - 10) / 85.0;
    const double expected = 0.01 + (0.2 - 0.01) * (1 + std::cos(std::numbers::pi * t)) / 2;
    EXPECT_NEAR(ta::cosine_rate(update, 0.2, kWhole), expected, 1e-15);
  }
}

TEST(CosineRate, WarmsUpLinearlyToTheBaseRate) {
  EXPECT_EQ(ta::cosine_rate(0, 0.2, kWhole), 0.0);
  EXPECT_NEAR(ta::cosine_rate(5, 0.2, kWhole), 0.1, 1e-15);
  EXPECT_EQ(ta::cosine_rate(10, 0.2, kWhole), 0.2);
}

// D8: the cosine's bound is the run's length less the cool-down, not less the warm-up as well.
TEST(CosineRate, ReachesItsMinimumAtTheCoolDownAndNotBefore) {
  for (std::int64_t update = 11; update < 95; ++update) {
    EXPECT_LT(ta::cosine_rate(update, 0.2, kWhole), ta::cosine_rate(update - 1, 0.2, kWhole));
    EXPECT_GT(ta::cosine_rate(update, 0.2, kWhole), 0.01);
  }
  for (std::int64_t update = 95; update <= 100; ++update) {
    EXPECT_EQ(ta::cosine_rate(update, 0.2, kWhole), 0.01);
  }
}

TEST(CosineRate, TakesItsMinimumAsARatioOfEachGroupsRate) {
  const ta::CosineOptions options{.min_ratio = 0.25, .total_updates = 10};
  EXPECT_EQ(ta::cosine_rate(10, 0.2, options), 0.05);
  EXPECT_EQ(ta::cosine_rate(10, 0.4, options), 0.1);
}

TEST(CosineScheduler, CoversTheRunAndEachGroupFromItsOwnRate) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  torch::optim::OptimizerParamGroup group({torch::ones({1}, torch::requires_grad())});
  group.set_options(std::make_unique<torch::optim::SGDOptions>(0.4));
  optimizer.add_param_group(group);
  ta::RunConfig config;
  config.total_updates = 50;
  const auto scheduler = ta::cosine()(optimizer, config);
  const auto rate = [&](std::size_t i) { return optimizer.param_groups()[i].options().get_lr(); };
  for (int update = 0; update < 50; ++update) {
    const double height = (1 + std::cos(std::numbers::pi * update / 50.0)) / 2;
    EXPECT_NEAR(rate(0), 0.1 * height, 1e-15);
    EXPECT_NEAR(rate(1), 0.4 * height, 1e-15);
    scheduler->step();
  }
  EXPECT_EQ(rate(0), 0.0);
}

TEST(CosineScheduler, RefusesLengthsThatLeaveNothing) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::RunConfig config;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::cosine()(optimizer, config); }),
              HasSubstr("max_updates"));
  config.total_updates = 10;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                ta::cosine({.warmup_updates = 6, .cooldown_updates = 4})(optimizer, config);
              }),
              HasSubstr("leave nothing of a run of 10"));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([] { ta::cosine({.warmup_updates = -1, .min_rate = -2.0}); }),
      testing::AllOf(HasSubstr("warmup_updates must be >= 0, got -1"),
                     HasSubstr("min_rate must be finite and >= 0, got -2")));
}

}  // namespace
}  // namespace tests::cosine_test
