// SPDX-License-Identifier: Apache-2.0
// Options for trying a program out, and the accumulation schedule.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>

#include "support/tiny.h"

namespace tests::trial_options_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kVariable = "TORCH_ACCELERATED_LIMIT_BATCHES";

struct Environment {
  explicit Environment(const char* value) { ::setenv(kVariable, value, 1); }
  ~Environment() { ::unsetenv(kVariable); }
};

struct Fixture {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};

  ta::RunResult train(const ta::TrainOptions& options, std::int64_t rows = 20) {
    return trainer.train(tiny_batch(rows, 1, torch::kFloat64), options);
  }
};

const ta::TrainOptions kOptions{
    .num_epochs = 2, .eval_dataset = tiny_batch(9, 3, torch::kFloat64), .per_device_batch_size = 2};

TEST(TrialOptions, TheEnvironmentLimitsWhatHasNoLimitAndTheLengthsFollow) {
  const Environment environment("3");
  Fixture f;
  auto options = kOptions;
  options.limit_eval_batches = 2;
  EXPECT_EQ(f.train(options).progress.update, 6);
  EXPECT_EQ(f.trainer.run_config().batches_per_epoch, 3);
  EXPECT_EQ(f.trainer.run_config().total_updates, 6);
  EXPECT_EQ(f.trainer.run_config().limit_train_batches, 3);
  EXPECT_EQ(f.trainer.run_config().limit_eval_batches, 2);
  const auto evaluated =
      f.trainer.evaluate(tiny_batch(9, 3, torch::kFloat64), {.per_device_batch_size = 1});
  EXPECT_EQ(evaluated.rows, 3);
}

// Notes how many rows each read asks for.
class CountedReads {
 public:
  CountedReads(ta::Dataset rows, std::vector<std::int64_t>& reads)
      : rows_(std::move(rows)), reads_(&reads) {}
  std::int64_t size() const { return rows_.size(); }
  ta::Batch get_batch(std::span<const std::int64_t> indices,
                      const ta::SampleContext& context) const {
    reads_->push_back(static_cast<std::int64_t>(indices.size()));
    return rows_.get_batch(indices, context);
  }

 private:
  ta::Dataset rows_;
  std::vector<std::int64_t>* reads_;
};

TEST(TrialOptions, LimitsAreTheBatchesThatATrainRunReads) {
  Fixture f;
  std::vector<std::int64_t> train_reads;
  std::vector<std::int64_t> eval_reads;
  std::vector<std::string> trace;
  f.trainer.callbacks().add(RecordingCallback(trace));
  const auto eval = tiny_batch(40, 3, torch::kFloat64);
  const auto result = f.trainer.train(CountedReads(tiny_batch(40, 1, torch::kFloat64), train_reads),
                                      {.num_epochs = 2,
                                       .eval_dataset = CountedReads(eval, eval_reads),
                                       .per_device_batch_size = 4,
                                       .limit_train_batches = 3,
                                       .limit_eval_batches = 2});
  EXPECT_THAT(train_reads, ElementsAre(4, 4, 4, 4, 4, 4));
  EXPECT_THAT(eval_reads, ElementsAre(4, 4, 4, 4));
  const auto events = [&](const std::string& name) {
    return std::count_if(trace.begin(), trace.end(),
                         [&](const std::string& event) { return event.starts_with(name); });
  };
  EXPECT_EQ(events("on_train_step_end"), 2 * 3);
  EXPECT_EQ(events("on_eval_step_start"), 2 * 2);
  EXPECT_EQ(events("on_eval_step_end"), 2 * 2);
  const auto first = [&](const char* name) { return eval[name].slice(0, 0, 8); };
  const auto loss = torch::mse_loss(f.net->forward(first("data")), first("target"));
  EXPECT_NEAR(result.metrics["eval_loss"], loss.item<double>(), 1e-12);
}

TEST(TrialOptions, LimitsHoldForAnAskedEvaluationOfTheRunToo) {
  Fixture f;
  std::vector<std::int64_t> eval_reads;
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    EXPECT_EQ(trainer.evaluate_intermediate().batches, 2);
  }));
  f.train({.num_epochs = 1,
           .eval_dataset = CountedReads(tiny_batch(40, 3, torch::kFloat64), eval_reads),
           .per_device_batch_size = 4,
           .limit_train_batches = 1,
           .limit_eval_batches = 2});
  EXPECT_THAT(eval_reads, ElementsAre(4, 4, 4, 4));
}

TEST(TrialOptions, AnUnusableEnvironmentIsRefusedWithItsValue) {
  Fixture f;
  for (const char* value : {"0", "-1", "ten", "3x"}) {
    const Environment environment(value);
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.train(kOptions); }),
                AllOf(HasSubstr(kVariable), HasSubstr(std::string("'") + value + "'")));
  }
}

TEST(TrialOptions, AFastDevRunIsOneUpdateAndOneEvaluationBatch) {
  Fixture f;
  auto options = kOptions;
  options.fast_dev_run = true;
  options.gradient_accumulation_steps = 3;
  const auto result = f.train(options);
  EXPECT_EQ(result.progress.update, 1);
  EXPECT_EQ(result.progress.epoch, 1);
  EXPECT_EQ(f.trainer.run_config().limit_eval_batches, 1);
  EXPECT_TRUE(result.metrics.find("eval_loss").has_value());
}

TEST(TrialOptions, OverfitBatchesAreTheSameInEachEpoch) {
  struct Seen : ta::Callback {
    explicit Seen(std::vector<double>& sums_) : sums(&sums_) {}
    void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& event) override {
      sums->push_back(event.batch["data"].sum().item<double>());
    }
    std::vector<double>* sums;
  };
  Fixture f;
  std::vector<double> sums;
  f.trainer.callbacks().add(Seen(sums));
  auto options = kOptions;
  options.num_epochs = 3;
  options.overfit_batches = 2;
  f.train(options);
  ASSERT_EQ(sums.size(), 6U);
  EXPECT_EQ(sums[0],
            tiny_batch(20, 1, torch::kFloat64)["data"].slice(0, 0, 2).sum().item<double>());
  EXPECT_THAT((std::vector<double>(sums.begin() + 2, sums.end())),
              ElementsAre(sums[0], sums[1], sums[0], sums[1]));
}

TEST(TrialOptions, ASanityEvaluationComesBeforeTrainingAndLeavesNoTrace) {
  Fixture plain;
  Fixture f;
  std::vector<std::string> trace;
  f.trainer.callbacks().add(RecordingCallback(trace));
  auto options = kOptions;
  options.sanity_eval_batches = 2;
  f.train(options);
  plain.train(kOptions);
  EXPECT_TRUE(equal_bits(*plain.net, *f.net));
  EXPECT_EQ(f.trainer.history().rows().size(), 2U);
  ASSERT_GT(trace.size(), 8U);
  EXPECT_THAT((std::vector<std::string>(trace.begin() + 1, trace.begin() + 9)),
              ElementsAre("on_training_run_start", "on_eval_epoch_start 0", "on_eval_step_start 0",
                          "on_eval_step_end 0", "on_eval_step_start 1", "on_eval_step_end 1",
                          "on_eval_epoch_end 0", "on_train_epoch_start 1"));
}

TEST(TrialOptions, WhatExcludesEachOtherIsToldAtOnce) {
  Fixture f;
  auto options = kOptions;
  options.fast_dev_run = true;
  options.overfit_batches = 2;
  options.limit_train_batches = 3;
  options.train_loader.shuffle = true;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.train(options); }),
              AllOf(HasSubstr("fast_dev_run and overfit_batches"),
                    HasSubstr("limit_train_batches and overfit_batches"),
                    HasSubstr("train_loader.shuffle")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.trainer.start({.fast_dev_run = true}); }),
              HasSubstr("need train()"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.trainer.start({.limit_train_batches = 2}); }),
              HasSubstr("need train()"));
  // A limit of 0 is as wrong in a trial as without.
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                f.train({.num_epochs = 1, .limit_train_batches = 0, .fast_dev_run = true});
              }),
              HasSubstr("limit_train_batches"));
  options = {.num_epochs = 1, .sanity_eval_batches = 1, .overfit_batches = 0};
  options.accumulation_schedule = {{0, 2}, {2, 0}};
  options.global_batch_size = 4;
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { f.train(options); }),
      AllOf(HasSubstr("no eval_dataset"), HasSubstr("overfit_batches must be >= 1"),
            HasSubstr("2 micro-batches from epoch 0"), HasSubstr("0 micro-batches from epoch 2"),
            HasSubstr("deterministic_shards fix")));
}

TEST(AccumulationSchedule, IsThatOfRunsWithTheNumbersOfItsEpochs) {
  Fixture scheduled;
  std::vector<std::int64_t> updates;
  const ta::TrainOptions options{.num_epochs = 4,
                                 .per_device_batch_size = 2,
                                 .accumulation_schedule = {{2, 3}, {4, 4}},
                                 .train_loader = {.shuffle = false, .num_workers = 1}};
  const auto result = scheduled.train(options);
  for (const auto& row : scheduled.trainer.history().rows()) updates.push_back(row.updates);
  EXPECT_THAT(updates, ElementsAre(10, 14, 18, 21));
  EXPECT_EQ(scheduled.trainer.run_config().total_updates, 21);
  EXPECT_FALSE(scheduled.trainer.run_config().updates_per_epoch.has_value());
  EXPECT_EQ(result.progress.update, 21);

  Fixture several;
  for (const auto& [epochs, steps] : std::vector<std::pair<int, int>>{{1, 1}, {2, 3}, {1, 4}}) {
    several.train({.num_epochs = epochs,
                   .per_device_batch_size = 2,
                   .gradient_accumulation_steps = steps,
                   .train_loader = {.shuffle = false}});
  }
  EXPECT_TRUE(equal_bits(*scheduled.net, *several.net));
}

}  // namespace
}  // namespace tests::trial_options_test
