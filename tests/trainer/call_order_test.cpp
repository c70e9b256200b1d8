// SPDX-License-Identifier: Apache-2.0
// Calls that come too early, too late or from within a run.
#include <gmock/gmock.h>

#include "support/tiny_trainer.h"

namespace tests::call_order_test {
namespace {

using testing::HasSubstr;

TEST(CallOrder, CallsOutOfOrderAreRefused) {
  TinyTrainer f;
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.step(tiny_batch(4)); }),
              HasSubstr("call start()"));
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.finish(); }), HasSubstr("call start()"));
  f.trainer.start({.max_updates = 1});
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.start({}); }),
              HasSubstr("a run is going on"));
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.add_optimizer("x", f.optimizer); }),
              HasSubstr("a run is going on"));
}

TEST(CallOrder, ACallThatIsRefusedLeavesTheRunAsItIs) {
  TinyTrainer f;
  f.trainer.start({.max_updates = 1});
  EXPECT_THROW(f.trainer.evaluate(ta::Dataset()), ta::ArgumentError);
  EXPECT_THROW(f.trainer.train(tiny_batch(4), {.num_epochs = 1}), ta::StateError);
  f.trainer.step(tiny_batch(4));
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.step(tiny_batch(4)); }),
              HasSubstr("call finish()"));
  EXPECT_EQ(f.trainer.finish().progress.update, 1);
}

TEST(CallOrder, TrainingFromWithinARunIsRefused) {
  TinyTrainer f;
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    trainer.train(tiny_batch(4), {.num_epochs = 1});
  }));
  EXPECT_THAT(
      message_of<ta::StateError>([&] { f.trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
      HasSubstr("a run is going on"));
}

TEST(CallOrder, SteppingOrFinishingFromWithinAStepIsRefused) {
  TinyTrainer f;
  std::vector<std::string> refusals;
  f.trainer.callbacks().add(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    refusals.push_back(message_of<ta::StateError>([&] { trainer.step(tiny_batch(4)); }));
    refusals.push_back(message_of<ta::StateError>([&] { trainer.finish(); }));
  }));
  f.trainer.start({});
  f.trainer.step(tiny_batch(4));
  EXPECT_THAT(refusals, testing::Each(HasSubstr("called from a step or a callback")));
  EXPECT_EQ(f.trainer.finish().progress.update, 1);
}

class FinishesAt : public ta::Callback {
 public:
  explicit FinishesAt(std::vector<std::string>& refusals) : refusals_(&refusals) {}
  void on_train_epoch_end(ta::Trainer& t, const ta::TrainEpochEnd&) override { finish(t); }
  void on_eval_step_end(ta::Trainer& t, const ta::EvalStepEnd&) override { finish(t); }
  void on_training_run_epoch_end(ta::Trainer& t, const ta::TrainingRunEpochEnd&) override {
    finish(t);
  }

 private:
  void finish(ta::Trainer& trainer) {
    refusals_->push_back(message_of<ta::StateError>([&] { trainer.finish(); }));
  }
  std::vector<std::string>* refusals_;
};

TEST(CallOrder, FinishingFromWithinFinishIsRefused) {
  TinyTrainer f;
  std::vector<std::string> refusals;
  f.trainer.callbacks().add(FinishesAt(refusals));
  f.trainer.start({.eval_dataset = tiny_batch(4)});
  f.trainer.step(tiny_batch(4));
  f.trainer.finish();
  EXPECT_EQ(refusals.size(), 3U);
  EXPECT_THAT(refusals, testing::Each(HasSubstr("called from a step or a callback")));
}

TEST(CallOrder, EvaluatingFromWithinARunWorks) {
  TinyTrainer f;
  double loss = 0;
  f.trainer.callbacks().add(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    loss = trainer.evaluate(tiny_batch(5)).metrics["eval_loss"];
    EXPECT_TRUE(trainer.model().module().is_training());
  }));
  EXPECT_EQ(
      f.trainer.train(tiny_batch(8), {.num_epochs = 1, .per_device_batch_size = 4}).progress.update,
      2);
  EXPECT_GT(loss, 0);
}

}  // namespace
}  // namespace tests::call_order_test
