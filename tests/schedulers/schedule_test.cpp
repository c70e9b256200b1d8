// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/schedule.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "support/tiny.h"
#include "torch_accelerated/schedulers/chain.h"
#include "torch_accelerated/schedulers/inverse_square_root.h"
#include "torch_accelerated/schedulers/one_cycle.h"
#include "torch_accelerated/schedulers/polynomial.h"
#include "torch_accelerated/schedulers/step_decay.h"
#include "torch_accelerated/schedulers/wsd.h"

namespace tests::schedule_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ta::RunConfig run_of(std::int64_t updates) {
  ta::RunConfig config;
  config.total_updates = updates;
  return config;
}

double rate_of(const torch::optim::Optimizer& optimizer, std::size_t group = 0) {
  return optimizer.param_groups()[group].options().get_lr();
}

std::vector<ta::Schedule> all_schedules() {
  return {ta::cosine({.warmup_updates = 3, .min_ratio = 0.1}),
          ta::linear({.warmup_updates = 3}),
          ta::polynomial({.power = 2}),
          ta::wsd({.warmup_updates = 3, .decay_updates = 8}),
          ta::one_cycle(),
          ta::step_decay({.every_updates = 4}),
          ta::multi_step_decay({.milestones = {2, 9}}),
          ta::inverse_square_root({.warmup_updates = 3}),
          ta::chain({{.schedule = ta::linear(), .fraction = 0.4}, {.schedule = ta::one_cycle()}})};
}

// Rates and momenta of all groups from the update on that comes next, to the run's end.
std::vector<double> trace(ta::Scheduler& scheduler, torch::optim::SGD& optimizer, int updates) {
  std::vector<double> values;
  for (int update = 0; update < updates; ++update) {
    for (auto& group : optimizer.param_groups()) {
      const auto& options = static_cast<torch::optim::SGDOptions&>(group.options());
      values.push_back(options.lr());
      values.push_back(options.momentum());
    }
    scheduler.step();
  }
  return values;
}

TEST(Schedule, ASavedOneGoesOnWithTheSameValuesOverAFreshOptimizer) {
  auto net = tiny_net();
  const auto config = run_of(20);
  for (const auto& schedule : all_schedules()) {
    auto optimizer = sgd(net);
    const auto scheduler = schedule(optimizer, config);
    for (int update = 0; update < 7; ++update) scheduler->step();
    const auto saved = scheduler->state();
    const auto expected = trace(*scheduler, optimizer, 13);

    // Momentum is the scheduler's where it sets it, and else the optimizer's own.
    auto fresh = sgd(net, 0.7, saved.contains("base_momenta") ? 0.3 : 0.9);
    const auto resumed = schedule(fresh, config);
    resumed->load_state(saved);
    EXPECT_EQ(trace(*resumed, fresh, 13), expected) << schedule.name();
  }
}

TEST(Schedule, AStateOfSomethingElseIsRefusedAndChangesNothing) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  const auto scheduler = ta::one_cycle()(optimizer, run_of(20));
  const double before = rate_of(optimizer);
  EXPECT_THAT(message_of<ta::StateError>([&] { scheduler->load_state(ta::State()); }),
              HasSubstr("no value 'update'"));
  const std::vector<double> rates{0.9};
  const auto of_cosine = ta::State().set("update", std::int64_t{5}).set("base_rates", rates);
  EXPECT_THAT(message_of<ta::StateError>([&] { scheduler->load_state(of_cosine); }),
              HasSubstr("base_momenta"));
  EXPECT_EQ(rate_of(optimizer), before);
}

// D9: an update is one step, however many ranks make it; the run's length is all that counts.
TEST(Schedule, IsTheSameOnAnyNumberOfRanks) {
  for (const auto& schedule : all_schedules()) {
    auto config = run_of(20);
    const auto alone = schedule.curve(config);
    config.world_size = 3;
    config.gradient_accumulation_steps = 2;
    const auto together = schedule.curve(config);
    for (std::int64_t update = 0; update <= 20; ++update) {
      EXPECT_EQ(alone.rate(update, 0.1), together.rate(update, 0.1)) << schedule.name();
    }
  }
}

TEST(Schedule, IsFiniteNeverNegativeAndStaysAtItsEndPastTheRun) {
  for (const auto& schedule : all_schedules()) {
    for (const std::int64_t updates : {12, 13, 20, 1000}) {
      const auto curve = schedule.curve(run_of(updates));
      for (std::int64_t update = 0; update <= updates + 5; ++update) {
        const double rate = curve.rate(update, 0.1);
        EXPECT_TRUE(std::isfinite(rate) && rate >= 0 && rate <= 0.1 + 1e-15)
            << schedule.name() << " gives " << rate << " at " << update << " of " << updates;
      }
    }
  }
  const auto curve = ta::cosine({.min_rate = 0.01}).curve(run_of(20));
  EXPECT_EQ(curve.rate(1'000'000, 0.1), 0.01);
}

// D15: a decay to zero and one of no length divide by nothing.
TEST(Wsd, DecaysToZeroAndNeedsNoDecay) {
  const ta::WsdOptions to_zero{
      .decay_updates = 4, .decay = ta::DecayShape::kLinear, .min_ratio = 0.0, .total_updates = 10};
  EXPECT_EQ(ta::wsd_rate(5, 0.1, to_zero), 0.1);
  EXPECT_EQ(ta::wsd_rate(6, 0.1, to_zero), 0.1);
  EXPECT_NEAR(ta::wsd_rate(9, 0.1, to_zero), 0.025, 1e-15);
  EXPECT_EQ(ta::wsd_rate(10, 0.1, to_zero), 0.0);
  const ta::WsdOptions without{.decay_updates = 0, .total_updates = 10};
  for (std::int64_t update = 0; update < 15; ++update) {
    EXPECT_EQ(ta::wsd_rate(update, 0.1, without), 0.1);
  }
  // A tenth of the run, rounded up, unless told otherwise.
  EXPECT_EQ(ta::wsd_rate(22, 0.1, {.total_updates = 25}), 0.1);
  EXPECT_LT(ta::wsd_rate(23, 0.1, {.total_updates = 25}), 0.1);
}

TEST(OneCycle, SetsMomentumByTheOptimizersTypeAndLeavesTheRest) {
  auto net = tiny_net();
  const auto config = run_of(10);
  const auto parameters = net->parameters();
  torch::optim::SGD sgd_optimizer(parameters, torch::optim::SGDOptions(0.1).momentum(0.9));
  torch::optim::RMSprop rmsprop(parameters, torch::optim::RMSpropOptions(0.1));
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(0.1).betas({0.9, 0.98}));
  torch::optim::AdamW adamw(parameters, torch::optim::AdamWOptions(0.1).betas({0.9, 0.97}));
  for (torch::optim::Optimizer* of :
       std::initializer_list<torch::optim::Optimizer*>{&sgd_optimizer, &rmsprop, &adam, &adamw}) {
    ta::one_cycle()(*of, config)->step();
  }
  const double expected = ta::one_cycle_momentum(1, {.total_updates = 10});
  EXPECT_LT(expected, 0.95);
  const auto options = [](auto& of) -> auto& { return of.param_groups()[0].options(); };
  EXPECT_EQ(static_cast<torch::optim::SGDOptions&>(options(sgd_optimizer)).momentum(), expected);
  EXPECT_EQ(static_cast<torch::optim::RMSpropOptions&>(options(rmsprop)).momentum(), expected);
  EXPECT_EQ(static_cast<torch::optim::AdamOptions&>(options(adam)).betas(),
            std::make_tuple(expected, 0.98));
  EXPECT_EQ(static_cast<torch::optim::AdamWOptions&>(options(adamw)).betas(),
            std::make_tuple(expected, 0.97));

  torch::optim::Adagrad adagrad(parameters, torch::optim::AdagradOptions(0.1));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::one_cycle()(adagrad, config); }),
              HasSubstr("has no momentum or betas that could be set"));
  EXPECT_EQ(rate_of(adagrad), 0.1);
  ta::one_cycle({.cycle_momentum = false})(adagrad, config);
  EXPECT_NEAR(rate_of(adagrad), 0.1 / 25, 1e-15);
}

TEST(OneCycle, PassesOverPhasesWithoutLength) {
  // The warm-up ends at update 0, where a division by its length would be one by zero.
  EXPECT_EQ(ta::one_cycle_rate(0, 0.1, {.warmup_fraction = 0.1, .total_updates = 10}), 0.1);
  EXPECT_TRUE(std::isfinite(ta::one_cycle_rate(0, 0.1, {.total_updates = 1})));
  EXPECT_EQ(ta::one_cycle_rate(9, 0.1, {.warmup_fraction = 1, .total_updates = 10}), 0.1);
}

TEST(Chain, StagesBeginAnewAtTheirUpdateOrFractionFromTheGroupsRate) {
  const auto chain =
      ta::chain({{.schedule = ta::wsd({.warmup_updates = 4, .decay_updates = 0}), .updates = 5},
                 {.schedule = ta::linear({.min_rate = 0.05}), .fraction = 0.5},
                 {.schedule = ta::one_cycle()}});
  EXPECT_EQ(chain.name(), "wsd, then linear, then one_cycle");
  const auto curve = chain.curve(run_of(25));  // stages of 5, 13 (half, rounded) and 7 updates
  for (std::int64_t update = 0; update < 25; ++update) {
    const double expected =
        update < 5    ? ta::wsd_rate(update, 0.1,
                                     {.warmup_updates = 4, .decay_updates = 0, .total_updates = 5})
        : update < 18 ? ta::linear_rate(update - 5, 0.1, {.min_rate = 0.05, .total_updates = 13})
                      : ta::one_cycle_rate(update - 18, 0.1, {.total_updates = 7});
    EXPECT_EQ(curve.rate(update, 0.1), expected) << update;
    const double momentum =
        update < 18 ? 0.8 : ta::one_cycle_momentum(update - 18, {.total_updates = 7});
    EXPECT_EQ(curve.momentum(update, 0.8), momentum) << update;
  }
  EXPECT_EQ(curve.least_base_rate, 0.05);
}

// D15: between two decays the rate is the base rate again, and not left at the minimum.
TEST(Chain, OfTwoWsdDecaysTwiceAndClimbsBackInBetween) {
  for (const std::optional<double> ratio : {std::optional<double>(), {0.0}, {0.1}}) {
    ta::WsdOptions half{.decay_updates = 4, .decay = ta::DecayShape::kLinear, .min_ratio = ratio};
    const auto schedule = ta::wsd(half);
    const auto curve = ta::chain({{.schedule = schedule, .fraction = 0.5},
                                  {.schedule = schedule, .fraction = 0.5}})
                           .curve(run_of(20));
    half.total_updates = 10;
    for (std::int64_t update = 0; update < 20; ++update) {
      EXPECT_EQ(curve.rate(update, 0.1), ta::wsd_rate(update % 10, 0.1, half)) << update;
    }
    for (const std::int64_t update : {5, 10, 15}) EXPECT_EQ(curve.rate(update, 0.1), 0.1) << update;
    for (const std::int64_t update : {9, 19}) EXPECT_LT(curve.rate(update, 0.1), 0.04) << update;
    EXPECT_EQ(curve.rate(20, 0.1), 0.1 * ratio.value_or(0));
  }
}

TEST(Chain, NeedsNoLengthOfTheRunWhereItsStagesNeedNone) {
  const auto chain = ta::chain(
      {{.schedule = ta::linear(), .updates = 10}, {.schedule = ta::inverse_square_root()}});
  EXPECT_EQ(chain.curve({}).rate(10, 0.1), 0.1);
  EXPECT_THAT(message_of<ta::ArgumentError>([] {
                ta::chain({{.schedule = ta::linear(), .fraction = 0.5},
                           {.schedule = ta::inverse_square_root()}})
                    .curve({});
              }),
              HasSubstr("length is not known"));
}

// Each makes a schedule that its options alone show to be wrong.
TEST(Schedule, RefusesOptionsOutOfRangeAtOnce) {
  using Make = std::function<void()>;
  const std::vector<std::pair<Make, std::string>> cases{
      {[] { ta::cosine({.k_decay = 0}); }, "k_decay must be finite and > 0, got 0"},
      {[] { ta::cosine({.min_rate = kNan}); }, "min_rate must be finite"},
      {[] { ta::cosine({.min_rate = 0.1, .min_ratio = 0.1}); }, "both set the minimum"},
      {[] { ta::linear({.min_ratio = 1.5}); },
       "linear: min_ratio must be between 0 and 1, got 1.5"},
      {[] { ta::linear({.total_updates = 0}); }, "total_updates must be >= 1, got 0"},
      {[] { ta::polynomial({.power = -1}); }, "power must be finite and > 0, got -1"},
      {[] { ta::polynomial({.warmup_updates = -3}); }, "warmup_updates must be >= 0, got -3"},
      {[] { ta::wsd({.decay_updates = -1}); }, "decay_updates must be >= 0, got -1"},
      {[] { ta::one_cycle({.warmup_fraction = 1.1}); }, "between 0 and 1, got 1.1"},
      {[] { ta::one_cycle({.warmup_fraction = 0.6, .three_phases = true}); }, "0 and 0.5, got 0.6"},
      {[] { ta::one_cycle({.start_divisor = 0}); }, "start_divisor must be finite and >= 1, got 0"},
      {[] { ta::one_cycle({.final_divisor = kNan}); }, "final_divisor must be finite"},
      {[] { ta::one_cycle({.max_momentum = 1}); }, "max_momentum must be in [0, 1), got 1"},
      {[] { ta::one_cycle({.min_momentum = 0.96}); }, "0.96 is above max_momentum 0.95"},
      {[] { ta::step_decay({}); }, "every_updates must be >= 1, got 0; it is required"},
      {[] { ta::step_decay({.every_updates = 3, .factor = 2}); },
       "factor must be in (0, 1], got 2"},
      {[] { ta::multi_step_decay({}); }, "milestones are empty"},
      {[] { ta::multi_step_decay({.milestones = {5, 5}}); }, "must ascend, each once"},
      {[] { ta::multi_step_decay({.milestones = {0, 5}}); }, "milestones must be >= 1"},
      {[] { ta::inverse_square_root({.timescale_updates = 0}); }, "timescale_updates must be >= 1"},
      {[] { ta::chain({}); }, "there are no stages"},
      {[] { ta::chain({{.schedule = ta::linear()}, {.schedule = ta::linear()}}); },
       "stage 0 (linear) has no length"},
      {[] { ta::chain({{.schedule = ta::linear(), .updates = 3, .fraction = 0.5}}); },
       "has both updates and fraction"},
      {[] { ta::chain({{.schedule = ta::linear(), .fraction = 0.0}}); },
       "fraction in (0, 1], got 0"},
      {[] { ta::wsd_rate(0, 0.1, {}); }, "wsd_rate: total_updates isn't given"}};
  for (const auto& [make, expected] : cases) {
    EXPECT_THAT(message_of<ta::ArgumentError>(make), HasSubstr(expected));
  }
  EXPECT_THAT(message_of<ta::ArgumentError>(
                  [] { ta::polynomial({.power = 0, .min_rate = -1, .total_updates = -5}); }),
              AllOf(HasSubstr("power"), HasSubstr("min_rate"), HasSubstr("total_updates")));
}

// Each fits its options and not the run or the optimizer.
TEST(Schedule, RefusesARunThatItDoesNotFit) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::pair<ta::Schedule, std::string>> cases{
      {ta::cosine({.warmup_updates = 10}), "leave nothing of a run of 10"},
      {ta::cosine({.warmup_updates = 2, .cooldown_updates = kMost}), "leave nothing"},
      {ta::linear({.warmup_updates = 10}), "linear: warm-up of 10 updates leaves nothing"},
      {ta::polynomial({.warmup_updates = 11}), "polynomial: warm-up of 11"},
      {ta::wsd({.warmup_updates = 6, .decay_updates = 5}), "are longer than a run of 10"},
      {ta::inverse_square_root({.warmup_updates = 12}), "warm-up of 12 updates leaves nothing"},
      {ta::cosine({.warmup_updates = 11, .total_updates = 100}),
       "cosine: warm-up of 11 updates is longer than a run of 10"},
      {ta::linear({.warmup_updates = 11, .total_updates = 100}), "linear: warm-up of 11"},
      {ta::polynomial({.warmup_updates = 11, .total_updates = 100}), "polynomial: warm-up of 11"},
      {ta::wsd({.warmup_updates = 11, .total_updates = 100}), "wsd: warm-up of 11"},
      {ta::one_cycle({.total_updates = 40}), "one_cycle: warm-up of 12 updates is longer"},
      {ta::chain(
           {{.schedule = ta::linear({.warmup_updates = 4, .total_updates = 100}), .updates = 3},
            {.schedule = ta::cosine()}}),
       "linear: warm-up of 4 updates is longer than a run of 3"},
      {ta::linear({.min_rate = 0.2}), "the minimum 0.2 is above the rate 0.1 of param group 0"},
      {ta::chain({{.schedule = ta::linear(), .updates = 11}}), "ends at update 11 of a run of 10"},
      {ta::chain({{.schedule = ta::linear(), .updates = 4},
                  {.schedule = ta::linear(), .updates = kMost}}),
       "shorten the stages"},
      {ta::chain({{.schedule = ta::linear(), .fraction = 1.0}, {.schedule = ta::linear()}}),
       "stage 1 (linear) has no update"},
      {ta::chain({{.schedule = ta::linear({.warmup_updates = 3}), .updates = 3},
                  {.schedule = ta::cosine()}}),
       "leaves nothing of a run of 3"}};
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  for (const auto& one : cases) {
    const auto& schedule = one.first;
    const auto& expected = one.second;
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { schedule(optimizer, run_of(10)); }),
                HasSubstr(expected));
    EXPECT_EQ(rate_of(optimizer), 0.1) << expected;
  }
  // What is as long as the run, or longer by what follows the warm-up, is not refused.
  ta::cosine({.warmup_updates = 10, .total_updates = 100})(optimizer, run_of(10));
  ta::one_cycle({.total_updates = 33})(optimizer, run_of(10));
  const std::vector<ta::Schedule> whole_runs{ta::linear(), ta::polynomial(), ta::wsd(),
                                             ta::one_cycle()};
  for (const auto& schedule : whole_runs) {
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { schedule(optimizer, {}); }),
                HasSubstr("max_updates"));
  }
}

}  // namespace
}  // namespace tests::schedule_test
