// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/step_based_evaluation.h"

#include <gmock/gmock.h>

#include "support/tiny.h"
#include "torch_accelerated/callbacks/early_stopping.h"

namespace tests::step_based_evaluation_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// What an intermediate evaluation leaves behind, at the next step.
class Observer : public ta::Callback {
 public:
  explicit Observer(torch::nn::Sequential net) : net_(std::move(net)) {}

  void on_train_step_start(ta::Trainer&, const ta::TrainStepStart&) override {
    modes_are_kept =
        modes_are_kept && net_->is_training() && net_[0]->is_training() && !net_[1]->is_training();
  }
  void on_eval_epoch_start(ta::Trainer&, const ta::EvalEpochStart&) override { batches = 0; }
  void on_eval_step_end(ta::Trainer&, const ta::EvalStepEnd&) override { ++batches; }
  void on_eval_epoch_end(ta::Trainer&, const ta::EvalEpochEnd& event) override {
    (event.is_intermediate ? between : at_end).push_back(batches);
  }
  void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart&) override {
    net_[1]->eval();  // kept so by a program of its own
  }

  bool modes_are_kept = true;
  std::int64_t batches = 0;
  std::vector<std::int64_t> between, at_end;

 private:
  torch::nn::Sequential net_;
};

// Defects 1 and 2 of pytorch-accelerated.
TEST(StepBasedEvaluation, KeepsModesAndLimitsAndChangesNoWeight) {
  const auto train = [](ta::CallbackList callbacks, torch::nn::Sequential net) {
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, std::move(callbacks));
    trainer.train(tiny_batch(40), {.num_epochs = 2,
                                   .eval_dataset = tiny_batch(20, 2),
                                   .per_device_batch_size = 4,
                                   .gradient_accumulation_steps = 2,
                                   .train_loader = {.num_workers = 1}});
    struct Found {
      std::vector<ta::HistoryRow> rows;
      Observer* observer;
      ta::CallbackList callbacks;
    };
    auto rows = trainer.history().rows();
    auto list = std::move(trainer.callbacks());
    auto* observer = list.find<Observer>();
    return Found{std::move(rows), observer, std::move(list)};
  };
  auto net = tiny_net();
  const auto with =
      train(ta::CallbackList(Observer(net),
                             ta::StepBasedEvaluation({.every_updates = 2, .limit_batches = 3})),
            net);
  EXPECT_TRUE(with.observer->modes_are_kept);
  EXPECT_THAT(with.observer->between, ElementsAre(3, 3, 3, 3, 3));  // at updates 2, 4, 6, 8, 10
  EXPECT_THAT(with.observer->at_end, ElementsAre(5, 5));

  auto alone = tiny_net();
  const auto without = train(ta::CallbackList(Observer(alone)), alone);
  EXPECT_TRUE(equal_bits(*net, *alone));
  ASSERT_EQ(with.rows.size(), 7U);
  EXPECT_EQ(with.rows[1].metrics.find("eval_loss"), std::nullopt);
  EXPECT_GT(with.rows[1].metrics["intermediate_eval_loss"], 0);
  EXPECT_EQ(with.rows[1].updates, 4);
  EXPECT_TRUE(with.rows[1].is_intermediate);
  EXPECT_EQ(with.rows[6].metrics["eval_loss"], without.rows[1].metrics["eval_loss"]);
  EXPECT_EQ(with.rows[6].metrics["train_loss"], without.rows[1].metrics["train_loss"]);
}

TEST(StepBasedEvaluation, EvaluatesAfterTheUpdateOfAWindowThatTheEpochsEndCloses) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::StepBasedEvaluation({.every_updates = 2})));
  trainer.start({.eval_dataset = tiny_batch(4, 2), .gradient_accumulation_steps = 2});
  for (std::uint64_t i = 0; i < 3; ++i) trainer.step(tiny_batch(4, i));
  EXPECT_EQ(trainer.finish().progress.update, 2);
  // The epoch is over by then: in its row, and with the weights that it is evaluated with.
  const auto& rows = trainer.history().rows();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].metrics.find("intermediate_eval_loss"), rows[0].metrics["eval_loss"]);
}

TEST(StepBasedEvaluation, HasMetricsThatOtherCallbacksCanWatch) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.0);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::EarlyStopping({.metric = "intermediate_eval_first"}),
                                       ta::StepBasedEvaluation({.every_updates = 3})));
  trainer.add_metric("first", [](const ta::TensorDict& outputs, const ta::Batch&) {
    return outputs.only().select(1, 0).mean();
  });
  const auto result = trainer.train(
      tiny_batch(8), {.num_epochs = 8, .eval_dataset = tiny_batch(4), .per_device_batch_size = 4});
  // Updates 3, 6 and 9 are in epochs 2, 3 and 5; nothing changes, and the others don't count.
  EXPECT_EQ(result.progress.epoch, 3);
  EXPECT_THAT(result.stop_reason, HasSubstr("the best was"));
}

TEST(StepBasedEvaluation, RefusesWhatItCannotDo) {
  const auto text = message_of<ta::ArgumentError>(
      [] { ta::StepBasedEvaluation({.every_updates = 0, .limit_batches = 0, .prefix = "eval_"}); });
  EXPECT_THAT(text, AllOf(HasSubstr("every_updates must be >= 1, got 0"),
                          HasSubstr("limit_batches must be >= 1, got 0"), HasSubstr("prefix")));
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::StepBasedEvaluation({.every_updates = 1})));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), {.num_epochs = 1}); }),
      HasSubstr("set eval_dataset"));
  EXPECT_EQ(trainer.progress().update, 0);
}

}  // namespace
}  // namespace tests::step_based_evaluation_test
