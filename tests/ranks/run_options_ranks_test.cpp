// SPDX-License-Identifier: Apache-2.0
// Options and requests that change how a run goes, on several ranks.
#include <gmock/gmock.h>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::run_options_ranks_test {
namespace {

struct Outcome {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  ta::RunResult result;
  std::vector<ta::HistoryRow> rows;
};

Outcome trained(ta::Accelerator& accelerator, ta::TrainOptions options,
                ta::CallbackList callbacks = {}) {
  Outcome outcome;
  auto optimizer = sgd(outcome.net);
  ta::Trainer trainer(outcome.net, torch::nn::MSELoss(), optimizer, std::move(callbacks),
                      &accelerator);
  options.num_epochs = 3;
  if (!options.eval_dataset) options.eval_dataset = tiny_batch(11, 3, torch::kFloat64);
  outcome.result = trainer.train(tiny_batch(37, 1, torch::kFloat64), options);
  outcome.rows = trainer.history().rows();
  return outcome;
}

TEST(RunOptions, AnAccumulationScheduleIsThatOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto options = [](std::int64_t rows) {
    return ta::TrainOptions{.per_device_batch_size = rows,
                            .accumulation_schedule = {{2, 3}},
                            .train_loader = {.num_workers = 1}};
  };
  const auto together = trained(ranks, options(2));
  const auto single = trained(alone, options(2 * ranks.world_size()));
  EXPECT_EQ(together.result.progress.update, single.result.progress.update);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  expect_same_bits_everywhere(ranks, together.net);
}

TEST(RunOptions, AnEvaluationThatOneRankRequestsIsMadeByAllTogether) {
  ta::Accelerator ranks;
  const int last = ranks.world_size() - 1;
  ta::CallbackList callbacks(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (ranks.rank() == last && event.updates == 1) trainer.request_evaluation();
  }));
  const auto outcome = trained(ranks, {.global_batch_size = 4}, std::move(callbacks));
  ASSERT_EQ(outcome.rows.size(), 4U);
  EXPECT_TRUE(outcome.rows[0].is_intermediate);
  EXPECT_EQ(outcome.rows[0].updates, 2);
  const auto loss = torch::full({1}, outcome.rows[0].metrics["intermediate_eval_loss"]);
  const auto losses = ranks.gather(loss);
  EXPECT_TRUE(torch::equal(losses, losses[0].expand_as(losses)));
}

TEST(RunOptions, TrialRunsAndTheNormAreThoseOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const ta::TrainOptions options{.global_batch_size = 4,
                                 .sanity_eval_batches = 1,
                                 .overfit_batches = 2,
                                 .track_gradient_norm = true};
  const auto together = trained(ranks, options);
  const auto single = trained(alone, options);
  EXPECT_EQ(together.result.progress.update, 6);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  EXPECT_NEAR(together.result.metrics["train_gradient_norm"],
              single.result.metrics["train_gradient_norm"], 1e-12);
}

TEST(RunOptions, AScheduleAndMaxUpdatesCountUpdatesOfAllRanksOnce) {
  ta::Accelerator ranks;
  std::vector<double> rates;
  ta::CallbackList callbacks(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.update_ended) rates.push_back(trainer.progress().learning_rate);
  }));
  const auto outcome =
      trained(ranks, {.global_batch_size = 4, .max_updates = 12, .scheduler = ta::cosine()},
              std::move(callbacks));
  EXPECT_EQ(outcome.result.progress.update, 12);
  ASSERT_EQ(rates.size(), 12U);
  for (std::size_t u = 0; u < rates.size(); ++u) {
    const ta::CosineOptions whole{.total_updates = 12};
    EXPECT_NEAR(rates[u], ta::cosine_rate(static_cast<std::int64_t>(u), 0.1, whole), 1e-15);
  }
}

std::vector<double> values_of(const Outcome& outcome, const char* name) {
  std::vector<double> values;
  for (const auto& row : outcome.rows) values.push_back(row.metrics[name]);
  return values;
}

// Nothing improves by so much, so each epoch but the first is one too many.
TEST(RunOptions, APlateauIsThatOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const ta::TrainOptions options{
      .global_batch_size = 4,
      .scheduler = ta::reduce_on_plateau({.factor = 0.5,
                                          .patience = 0,
                                          .threshold = 1e6,
                                          .threshold_mode = ta::PlateauThreshold::kAbsolute})};
  const auto together = trained(ranks, options);
  const auto single = trained(alone, options);
  EXPECT_THAT(values_of(together, "learning_rate"), testing::ElementsAre(0.1, 0.1, 0.05));
  EXPECT_THAT(values_of(together, "eval_loss"),
              testing::Pointwise(testing::DoubleNear(1e-11), values_of(single, "eval_loss")));
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  expect_same_bits_everywhere(ranks, together.net);
}

TEST(RunOptions, ACycleOfRateAndMomentumIsThatOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto cycled = [](ta::Accelerator& accelerator, std::vector<double>& momenta) {
    ta::CallbackList callbacks(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
      if (!event.update_ended) return;
      const auto& group = trainer.optimizer().param_groups().front().options();
      momenta.push_back(static_cast<const torch::optim::SGDOptions&>(group).momentum());
    }));
    return trained(accelerator, {.global_batch_size = 4, .scheduler = ta::one_cycle()},
                   std::move(callbacks));
  };
  std::vector<double> momenta;
  std::vector<double> momenta_alone;
  const auto together = cycled(ranks, momenta);
  const auto single = cycled(alone, momenta_alone);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  expect_same_bits_everywhere(ranks, together.net);
  EXPECT_EQ(momenta, momenta_alone);
  ASSERT_EQ(momenta.size(), 30U);                     // 3 epochs of 37 rows, 4 at a time
  for (std::size_t u = 0; u < momenta.size(); ++u) {  // what comes next when `u` has ended
    const auto next = static_cast<std::int64_t>(u) + 1;
    EXPECT_NEAR(momenta[u], ta::one_cycle_momentum(next, {.total_updates = 30}), 1e-15) << u;
  }
}

TEST(RunOptions, AFastDevRunIsThatOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  // 12 rows are one batch of any of these numbers of ranks, of 31 to evaluate on.
  const ta::TrainOptions options{.eval_dataset = tiny_batch(31, 3, torch::kFloat64),
                                 .global_batch_size = 12,
                                 .fast_dev_run = true};
  const auto together = trained(ranks, options);
  const auto single = trained(alone, options);
  for (const auto* outcome : {&together, &single}) {
    EXPECT_EQ(outcome->result.progress.update, 1);
    EXPECT_EQ(outcome->result.progress.epoch, 1);
    EXPECT_EQ(outcome->rows.size(), 1U);
  }
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  for (const char* name : {"train_loss", "eval_loss"}) {
    EXPECT_NEAR(together.result.metrics[name], single.result.metrics[name], 1e-12) << name;
  }
  auto whole = options;
  whole.limit_eval_batches.reset();
  whole.fast_dev_run = false;
  whole.max_updates = 1;
  EXPECT_NE(trained(alone, whole).result.metrics["eval_loss"], single.result.metrics["eval_loss"]);
}

}  // namespace
}  // namespace tests::run_options_ranks_test
