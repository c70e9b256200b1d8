// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/early_stopping.h"

#include <gmock/gmock.h>

#include <limits>

#include "callbacks/fails_after_loading.h"
#include "support/tiny.h"

namespace tests::early_stopping_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A trainer whose epochs end with the train_level that a test asks for.
class Levels : public ta::Trainer {
 public:
  Levels(std::vector<double> levels, ta::CallbackList callbacks)
      : Levels(tiny_net(), std::move(levels), std::move(callbacks)) {}

  ta::RunResult run(bool reset_history = true) {
    return train(tiny_batch(4), {.num_epochs = static_cast<std::int64_t>(levels_.size()),
                                 .per_device_batch_size = 4,
                                 .reset_history = reset_history});
  }

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    auto output = Trainer::calculate_train_batch_loss(batch);
    const auto level = levels_[static_cast<std::size_t>(progress().epoch - 1)];
    output.scalars.emplace_back("level", ta::Mean(torch::tensor(level, torch::kFloat64)));
    return output;
  }

 private:
  Levels(const torch::nn::Sequential& net, std::vector<double> levels, ta::CallbackList callbacks)
      : Levels(net, std::make_unique<torch::optim::SGD>(net->parameters(), 0.1), std::move(levels),
               std::move(callbacks)) {}
  Levels(const torch::nn::Sequential& net, std::unique_ptr<torch::optim::SGD> optimizer,
         std::vector<double> levels, ta::CallbackList callbacks)
      : Trainer(net, torch::nn::MSELoss(), *optimizer, std::move(callbacks)),
        optimizer_(std::move(optimizer)),
        levels_(std::move(levels)) {}

  std::unique_ptr<torch::optim::SGD> optimizer_;
  std::vector<double> levels_;
};

ta::RunResult run(std::vector<double> levels, ta::EarlyStoppingOptions options) {
  options.metric = "train_level";
  return Levels(std::move(levels), ta::CallbackList(ta::EarlyStopping(options))).run();
}

// Also the table in docs/callbacks.md.
TEST(EarlyStopping, StopsByTheTruthTableOfPatience) {
  struct Case {
    std::vector<double> levels;
    std::int64_t patience;
    std::int64_t epochs;  // that are trained
    bool stops;
  };
  const std::vector<Case> cases = {
      {{5, 4, 3, 2}, 1, 4, false},             // improves each time
      {{5, 6, 3, 2}, 1, 2, true},              // the first epoch without improvement
      {{5, 5, 3, 2}, 1, 2, true},              // equal is no improvement
      {{5, 6, 3, 2}, 2, 4, false},             // one in a row only
      {{5, 6, 7, 2}, 2, 3, true},              // two in a row
      {{5, 6, 4, 6, 3, 6}, 2, 6, false},       // an improvement starts counting anew
      {{5, 6, 4, 4.5, 4.2, 3}, 2, 5, true},    // better than the last, not than the best
      {{5, kNaN, 4, kNaN, kNaN}, 2, 5, true},  // NaN is no improvement
      {{kNaN, kNaN, 1}, 2, 2, true},           // also where there is nothing yet
      {{5, -kInfinity, 4}, 1, 2, true},        // nor is infinity
      {{5, 6, 6, 6, 4}, 3, 4, true},
  };
  for (const auto& [levels, patience, epochs, stops] : cases) {
    const auto result = run(levels, {.patience = patience});
    EXPECT_EQ(result.progress.epoch, epochs) << testing::PrintToString(levels);
    EXPECT_EQ(result.was_stopped(), stops) << testing::PrintToString(levels);
  }
  EXPECT_EQ(run({1, 2, 1.5}, {.direction = ta::Better::kHigher}).progress.epoch, 3);
  EXPECT_EQ(run({5, 6, 7, 2}, {.patience = 2}).stop_reason,
            "EarlyStopping: train_level is 7 and has not improved for 2 epochs; the best was 5 in "
            "epoch 1");
}

TEST(EarlyStopping, CountsOnlyWhatIsMoreThanBothDeltasAsImprovement) {
  // By 0.5 of 5 and of 4.4, the second of which is more.
  EXPECT_EQ(run({5, 4.5, 0}, {.min_delta = 0.5}).progress.epoch, 2);
  EXPECT_EQ(run({5, 4.4, 3.8}, {.min_delta = 0.5}).progress.epoch, 3);
  EXPECT_EQ(run({8, 6, 0}, {.min_relative_delta = 0.25}).progress.epoch, 2);
  EXPECT_EQ(run({-8, -9, 0}, {.min_relative_delta = 0.25}).progress.epoch, 2);
  EXPECT_EQ(run({8, 5.9, 4.4}, {.min_delta = 1, .min_relative_delta = 0.25}).progress.epoch, 3);
  // What is too little each time adds up, as the best stays where it was.
  EXPECT_EQ(run({5, 4.7, 4.4, 4.1}, {.patience = 2, .min_delta = 0.5}).progress.epoch, 4);
}

TEST(EarlyStopping, StopsAtOnceWhenGoodEnoughOrDiverged) {
  const auto good = run({5, 2, 1}, {.patience = 9, .stopping_threshold = 2.0});
  EXPECT_EQ(good.progress.epoch, 2);
  EXPECT_THAT(good.stop_reason, HasSubstr("train_level is 2, the stopping_threshold is 2"));
  for (const double bad : {10.0, 11.0, kInfinity, kNaN}) {
    const auto result = run({5, bad, 1}, {.patience = 9, .divergence_threshold = 10.0});
    EXPECT_EQ(result.progress.epoch, 2) << bad;
    EXPECT_THAT(result.stop_reason, HasSubstr("the divergence_threshold is 10"));
  }
  const ta::EarlyStoppingOptions higher{.patience = 9,
                                        .direction = ta::Better::kHigher,
                                        .stopping_threshold = 0.9,
                                        .divergence_threshold = 0.1};
  EXPECT_EQ(run({0.5, 0.2, 0.95, 0.5}, higher).progress.epoch, 3);
  EXPECT_EQ(run({0.5, 0.1, 0.95}, higher).progress.epoch, 2);
  EXPECT_FALSE(run({0.5, kInfinity, 0.5}, higher).was_stopped());
}

TEST(EarlyStopping, GoesOnFromItsState) {
  const ta::EarlyStoppingOptions options{.metric = "train_level", .patience = 3};
  Levels first({5, 6, 6}, ta::CallbackList(ta::EarlyStopping(options)));
  EXPECT_FALSE(first.run().was_stopped());
  const auto state = first.callbacks().find<ta::EarlyStopping>()->state();

  ta::EarlyStopping next(options);
  next.load_state(state);
  Levels second({5.5, 1}, ta::CallbackList(std::move(next)));
  EXPECT_EQ(second.run().progress.epoch, 1);
  const auto& callback = *second.callbacks().find<ta::EarlyStopping>();
  EXPECT_EQ(callback.epochs_without_improvement(), 3);
  EXPECT_EQ(callback.best()->value, 5);
  // Another run begins anew.
  EXPECT_EQ(second.run().progress.epoch, 2);

  ta::EarlyStopping other({.metric = "train_loss"});
  EXPECT_THROW(other.load_state(state), ta::StateError);
  EXPECT_THROW(other.load_state({}), ta::StateError);
}

TEST(EarlyStopping, BeginsAnewAfterARunThatFailedWhileItWentOn) {
  const ta::EarlyStoppingOptions options{.metric = "train_level", .patience = 3};
  Levels first({5, 6, 6}, ta::CallbackList(ta::EarlyStopping(options)));
  first.run();
  const auto state = first.callbacks().find<ta::EarlyStopping>()->state();
  Levels second({5.5, 1}, ta::CallbackList(ta::EarlyStopping(options),
                                           FailsAfterLoading<ta::EarlyStopping>(state)));
  EXPECT_THROW(second.run(), ta::UserCodeError);
  EXPECT_FALSE(second.run().was_stopped());  // with the state's best of 5 it would be, at 5.5
  EXPECT_EQ(second.callbacks().find<ta::EarlyStopping>()->best()->value, 1);
}

TEST(EarlyStopping, TakesNoStateOfTheOtherDirection) {
  const auto watch = ta::State()
                         .set("metric", std::string("train_level"))
                         .set("seen", true)
                         .set("best", 5.0)
                         .set("best_epoch", std::int64_t{1});
  const auto state_with = [](const ta::State& watched) {
    return ta::State().set("waited", std::int64_t{2}).set_part("watch", watched);
  };
  ta::EarlyStopping lower({.metric = "train_level"});
  lower.load_state(state_with(watch));  // as older versions wrote it
  EXPECT_EQ(lower.best()->value, 5);
  ta::EarlyStopping higher({.metric = "train_level", .direction = ta::Better::kHigher});
  EXPECT_THAT(message_of<ta::StateError>([&] { higher.load_state(lower.state()); }),
              HasSubstr("'train_level' with direction lower, expected higher"));
  EXPECT_FALSE(higher.best());
  EXPECT_EQ(higher.epochs_without_improvement(), 0);
  higher.load_state(state_with(watch));
  EXPECT_NO_THROW(higher.load_state(higher.state()));
}

TEST(EarlyStopping, CountsOnOverRunsWhereAsked) {
  Levels trainer({5, 6}, ta::CallbackList(ta::EarlyStopping(
                             {.metric = "train_level", .patience = 2, .reset_on_train = false})));
  EXPECT_FALSE(trainer.run().was_stopped());
  EXPECT_EQ(trainer.run(/*reset_history=*/false).progress.epoch, 1);
}

TEST(EarlyStopping, RefusesOptionsAllAtOnce) {
  const auto text = message_of<ta::ArgumentError>([] {
    ta::EarlyStopping({.metric = "",
                       .patience = 0,
                       .min_delta = -1,
                       .min_relative_delta = kNaN,
                       .stopping_threshold = 3.0,
                       .divergence_threshold = 2.0});
  });
  EXPECT_THAT(text, AllOf(HasSubstr("EarlyStopping: patience must be >= 1, got 0"),
                          HasSubstr("metric is empty"), HasSubstr("min_delta must be finite"),
                          HasSubstr("min_relative_delta must be finite and >= 0, got nan"),
                          HasSubstr("stopping_threshold 3 must be below divergence_threshold 2")));
}

TEST(EarlyStopping, NamesTheNearestMetricBeforeTheRunOrAtTheFirstEpochsEnd) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer plain(net, torch::nn::MSELoss(), optimizer,
                    ta::CallbackList(ta::EarlyStopping({.metric = "eval_los"})));
  const auto before = message_of<ta::ArgumentError>(
      [&] { plain.train(tiny_batch(8), {.num_epochs = 2, .eval_dataset = tiny_batch(4)}); });
  EXPECT_THAT(before, AllOf(HasSubstr("EarlyStopping: "), HasSubstr("did you mean 'eval_loss'")));
  EXPECT_TRUE(plain.history().empty());

  // The scalars of a subclass come with the first of them.
  Levels own({1, 1}, ta::CallbackList(ta::EarlyStopping({.metric = "train_levl"})));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { own.run(); }),
              AllOf(HasSubstr("EarlyStopping: "), HasSubstr("did you mean 'train_level'")));
  EXPECT_EQ(own.history().rows().size(), 1U);
}

/// Requests a stop when an evaluation has begun.
class StopInEvaluation : public ta::Callback {
 public:
  void on_eval_epoch_start(ta::Trainer& trainer, const ta::EvalEpochStart& event) override {
    if (event.epoch == 1) trainer.request_stop("enough");
  }
};

TEST(EarlyStopping, TakesNoNoteOfAnEvaluationThatAStopCutShort) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(StopInEvaluation(), ta::EarlyStopping()));
  const auto result = trainer.train(
      tiny_batch(8),
      {.num_epochs = 2, .eval_dataset = tiny_batch(60), .eval_per_device_batch_size = 1});
  EXPECT_EQ(result.stop_reason, "enough");
  EXPECT_FALSE(trainer.callbacks().find<ta::EarlyStopping>()->best());
}

}  // namespace
}  // namespace tests::early_stopping_test
