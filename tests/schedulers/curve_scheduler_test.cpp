// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "support/tiny.h"
#include "torch_accelerated/schedulers/chain.h"
#include "torch_accelerated/schedulers/cosine.h"
#include "torch_accelerated/schedulers/inverse_square_root.h"
#include "torch_accelerated/schedulers/one_cycle.h"
#include "torch_accelerated/schedulers/polynomial.h"
#include "torch_accelerated/schedulers/step_decay.h"
#include "torch_accelerated/schedulers/wsd.h"

namespace tests::curve_scheduler_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

ta::RunConfig run_of(std::optional<std::int64_t> updates) {
  ta::RunConfig config;
  config.total_updates = updates;
  return config;
}

void add_group(torch::optim::Optimizer& optimizer, double rate) {
  torch::optim::OptimizerParamGroup group({torch::ones({1}, torch::requires_grad())});
  group.set_options(std::make_unique<torch::optim::SGDOptions>(rate));
  optimizer.add_param_group(group);
}

double rate_of(const torch::optim::Optimizer& optimizer, std::size_t group) {
  return optimizer.param_groups()[group].options().get_lr();
}

std::string settings_of(const ta::SchedulerFactory& factory, std::optional<std::int64_t> updates,
                        const std::vector<double>& rates = {0.1}) {
  auto net = tiny_net();
  auto optimizer = sgd(net, rates.front());
  for (std::size_t i = 1; i < rates.size(); ++i) add_group(optimizer, rates[i]);
  return factory(optimizer, run_of(updates))->settings();
}

void expect_all_different(const std::vector<ta::Schedule>& schedules,
                          std::optional<std::int64_t> updates) {
  std::set<std::string> seen;
  for (const auto& schedule : schedules) {
    const auto settings = settings_of(schedule, updates);
    EXPECT_EQ(settings_of(schedule, updates), settings);
    EXPECT_TRUE(seen.insert(settings).second) << settings;
  }
}

// Where they differ, no power of two lies.
TEST(CurveScheduler, HasOtherSettingsForAnotherCurve) {
  expect_all_different(
      {ta::cosine({.warmup_updates = 100}), ta::cosine({.warmup_updates = 101}),
       ta::cosine({.warmup_updates = 100, .cooldown_updates = 200}),
       ta::cosine({.warmup_updates = 100, .cooldown_updates = 201}),
       ta::wsd({.decay_updates = 300}), ta::wsd({.decay_updates = 301}),
       ta::multi_step_decay({.milestones = {500, 750}}),
       ta::multi_step_decay({.milestones = {500, 751}}), ta::one_cycle(),
       ta::one_cycle({.max_momentum = 0.96}), ta::one_cycle({.cycle_momentum = false}),
       ta::chain({{.schedule = ta::linear(), .updates = 301}, {.schedule = ta::linear()}}),
       ta::chain({{.schedule = ta::linear(), .updates = 302}, {.schedule = ta::linear()}})},
      1000);
  expect_all_different({ta::wsd({.decay_updates = 100'000}), ta::wsd({.decay_updates = 100'001}),
                        ta::multi_step_decay({.milestones = {700'000}}),
                        ta::multi_step_decay({.milestones = {701'000}})},
                       1'000'000);
  expect_all_different(
      {ta::inverse_square_root({.timescale_updates = 10'000}),
       ta::inverse_square_root({.timescale_updates = 10'001}),
       ta::step_decay({.every_updates = 1'000'000}), ta::step_decay({.every_updates = 1'001'000})},
      std::nullopt);
}

TEST(CurveScheduler, HasOtherSettingsForOtherGroups) {
  const auto schedule = ta::linear({.warmup_updates = 1});
  const std::vector<std::vector<double>> all{
      {0.1}, {std::nextafter(0.1, 1)}, {0.1, 0.1}, {0.1, 0.2}, {0.2, 0.1}};
  std::set<std::string> seen;
  for (const auto& rates : all) seen.insert(settings_of(schedule, 10, rates));
  EXPECT_EQ(seen.size(), all.size());
}

TEST(CurveScheduler, TellsTheFirstGroupsCurveWhereItChanges) {
  EXPECT_THAT(settings_of(ta::linear(), 8, {0.5, 0.25}),
              StartsWith("groups from 0.5 0.25; the first: 0.5 at 0, 0.4375 at 1, 0.375 at 2, "
                         "0.25 at 4, digest "));
  EXPECT_THAT(settings_of(ta::step_decay({.every_updates = 100, .factor = 0.5}), 1000),
              StartsWith("groups from 0.1; 0.1 at 0, 0.05 at 128, 0.025 at 256, 0.003125 at 512, "
                         "digest "));
  EXPECT_THAT(settings_of(ta::one_cycle({.max_momentum = 0.9}), 10),
              HasSubstr(", 0.1/0.85 at 2, "));
}

// A user's curve may be a table, of which nothing beyond the run is there to be read.
TEST(CurveScheduler, AsksItsCurveForNoUpdateBeyondTheRun) {
  std::int64_t most = 0;
  const auto curve = [&most](std::int64_t update, double base_rate) {
    most = std::max(most, update);
    return base_rate;
  };
  const ta::Schedule table("table", [&](const ta::RunConfig&) { return ta::Curve{.rate = curve}; });
  settings_of(table, 10);
  EXPECT_EQ(most, 9);
  settings_of(table, 1'000'000);
  EXPECT_LT(most, 1'000'000);
  most = 0;
  settings_of(
      [&](torch::optim::Optimizer& optimizer, const ta::RunConfig&) {
        return std::make_unique<ta::CurveScheduler>(optimizer, "of no known length", curve);
      },
      10);
  EXPECT_EQ(most, 1);
}

TEST(CurveScheduler, NeverRaisesAGroupThatWasAddedBelowTheMinimum) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  const auto scheduler = ta::linear({.min_rate = 0.05})(optimizer, run_of(10));
  for (int update = 0; update < 3; ++update) scheduler->step();
  add_group(optimizer, 0.01);
  add_group(optimizer, 0.07);
  for (std::int64_t update = 4; update <= 12; ++update) {
    scheduler->step();
    EXPECT_EQ(rate_of(optimizer, 1), 0.01) << update;
    EXPECT_EQ(rate_of(optimizer, 2),
              ta::linear_rate(update, 0.07, {.min_rate = 0.05, .total_updates = 10}));
  }
  EXPECT_EQ(rate_of(optimizer, 0), 0.05);
}

// The minimum is the highest of the stages: in another the group goes below its own rate.
TEST(CurveScheduler, LowersAGroupThatWasAddedBelowTheMinimumWhereTheCurveFalls) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  const auto scheduler = ta::chain(
      {{.schedule = ta::linear({.min_rate = 0.05}), .updates = 5},
       {.schedule = ta::linear({.warmup_updates = 2, .min_rate = 0.002})}})(optimizer, run_of(15));
  add_group(optimizer, 0.01);
  std::vector<double> rates;
  for (int update = 1; update < 15; ++update) {
    scheduler->step();
    rates.push_back(rate_of(optimizer, 1));
  }
  for (std::int64_t update = 1; update < 15; ++update) {
    const double expected =
        update < 5 ? 0.01
                   : ta::linear_rate(update - 5, 0.01,
                                     {.warmup_updates = 2, .min_rate = 0.002, .total_updates = 10});
    EXPECT_EQ(rates[static_cast<std::size_t>(update - 1)], expected) << update;
  }
  EXPECT_LT(rates.back(), 0.01);
}

}  // namespace
}  // namespace tests::curve_scheduler_test
