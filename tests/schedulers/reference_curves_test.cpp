// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "schedulers/reference.h"
#include "support/tiny.h"
#include "torch_accelerated/schedulers/chain.h"
#include "torch_accelerated/schedulers/cosine.h"
#include "torch_accelerated/schedulers/inverse_square_root.h"
#include "torch_accelerated/schedulers/one_cycle.h"
#include "torch_accelerated/schedulers/polynomial.h"
#include "torch_accelerated/schedulers/step_decay.h"
#include "torch_accelerated/schedulers/wsd.h"

namespace tests::reference_curves_test {
namespace {

constexpr double kRate = 0.3;

ta::RunConfig run_of(std::int64_t updates) {
  ta::RunConfig config;
  config.total_updates = updates;
  return config;
}

void expect_reference(const std::string& name, const ta::Schedule& schedule) {
  const auto expected = reference_curve(name);
  const auto curve = schedule.curve(run_of(static_cast<std::int64_t>(expected.size())));
  for (std::size_t update = 0; update < expected.size(); ++update) {
    EXPECT_NEAR(curve.rate(static_cast<std::int64_t>(update), kRate), expected[update], 1e-12)
        << name << " at update " << update;
  }
}

void expect_reference_momentum(const std::string& name, const ta::Schedule& schedule) {
  const auto expected = reference_curve(name);
  const auto curve = schedule.curve(run_of(static_cast<std::int64_t>(expected.size())));
  for (std::size_t update = 0; update < expected.size(); ++update) {
    EXPECT_NEAR(curve.momentum(static_cast<std::int64_t>(update), 0.5), expected[update], 1e-12)
        << name << " at update " << update;
  }
}

TEST(ReferenceCurves, CosineIsThatOfPyTorchTimmAndTransformers) {
  expect_reference("torch_cosine", ta::cosine({.min_rate = 0.02}));
  expect_reference("transformers_cosine", ta::cosine({.warmup_updates = 8}));
  expect_reference("transformers_cosine_ratio",
                   ta::cosine({.warmup_updates = 8, .min_ratio = 0.1}));
  expect_reference("timm_cosine", ta::cosine({.warmup_updates = 8,
                                              .warmup_start_rate = 0.001,
                                              .min_rate = 0.01,
                                              .cooldown_updates = 4}));
  expect_reference("timm_cosine_k_decay_0.5",
                   ta::cosine({.warmup_updates = 8, .min_rate = 0.01, .k_decay = 0.5}));
  expect_reference("timm_cosine_k_decay_1.7",
                   ta::cosine({.warmup_updates = 8, .min_rate = 0.01, .k_decay = 1.7}));
}

TEST(ReferenceCurves, LinearAndPolynomialAreThoseOfPyTorchTimmAndTransformers) {
  expect_reference("transformers_linear", ta::linear({.warmup_updates = 8}));
  expect_reference("torch_linear", ta::linear({.min_ratio = 0.1, .total_updates = 44}));
  expect_reference("transformers_polynomial",
                   ta::polynomial({.power = 2.5, .warmup_updates = 8, .min_rate = 0.01}));
  expect_reference("torch_polynomial", ta::polynomial({.power = 0.5, .total_updates = 44}));
  expect_reference(
      "timm_polynomial",
      ta::polynomial(
          {.power = 0.9, .warmup_updates = 8, .warmup_start_rate = 0.001, .min_rate = 0.01}));
}

// transformers warms up from the minimum, ours from a rate of its own.
TEST(ReferenceCurves, WsdIsThatOfTransformers) {
  const std::vector<std::pair<std::string, ta::DecayShape>> shapes{
      {"linear", ta::DecayShape::kLinear},
      {"cosine", ta::DecayShape::kCosine},
      {"1-sqrt", ta::DecayShape::kOneMinusSqrt}};
  for (const auto& [name, shape] : shapes) {
    expect_reference("transformers_wsd_" + name, ta::wsd({.warmup_updates = 8,
                                                          .warmup_start_rate = 0.1 * kRate,
                                                          .decay_updates = 12,
                                                          .decay = shape,
                                                          .min_ratio = 0.1,
                                                          .total_updates = 44}));
  }
}

TEST(ReferenceCurves, OneCycleIsThatOfPyTorchInRateAndMomentum) {
  const ta::OneCycleOptions linear{.warmup_fraction = 0.4,
                                   .start_divisor = 10,
                                   .final_divisor = 100,
                                   .annealing = ta::Annealing::kLinear};
  const ta::OneCycleOptions three{
      .warmup_fraction = 0.35, .three_phases = true, .min_momentum = 0.8, .max_momentum = 0.9};
  const std::vector<std::pair<std::string, ta::OneCycleOptions>> cases{{"cosine_SGD", {}},
                                                                       {"cosine_AdamW", {}},
                                                                       {"linear_SGD", linear},
                                                                       {"three_phases_SGD", three},
                                                                       {"short", {}}};
  for (const auto& [name, options] : cases) {
    expect_reference("torch_one_cycle_" + name, ta::one_cycle(options));
    expect_reference_momentum("torch_one_cycle_" + name + "_momentum", ta::one_cycle(options));
  }
}

TEST(ReferenceCurves, StepsAndInverseSquareRootAreThoseOfPyTorchAndTransformers) {
  expect_reference("torch_step", ta::step_decay({.every_updates = 7, .factor = 0.3}));
  expect_reference("torch_multi_step",
                   ta::multi_step_decay({.milestones = {5, 6, 20}, .factor = 0.5}));
  expect_reference("transformers_inverse_sqrt", ta::inverse_square_root({.warmup_updates = 8}));
  expect_reference("transformers_inverse_sqrt_timescale",
                   ta::inverse_square_root({.warmup_updates = 8, .timescale_updates = 20}));
  expect_reference("transformers_inverse_sqrt_cold", ta::inverse_square_root());
}

TEST(ReferenceCurves, ChainIsPyTorchsSequence) {
  const auto steps = ta::step_decay({.every_updates = 4, .factor = 0.5});
  expect_reference("torch_sequential",
                   ta::chain({{.schedule = steps, .updates = 10}, {.schedule = ta::cosine()}}));
}

}  // namespace
}  // namespace tests::reference_curves_test
