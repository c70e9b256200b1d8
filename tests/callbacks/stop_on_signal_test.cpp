// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <csignal>
#include <stdexcept>

#include "support/saving_run.h"

namespace tests::stop_on_signal_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
using torch_accelerated::testing::TempDir;

TEST(StopOnSignal, SavesTheUpdateAtWhichTheRunStops) {
  const TempDir folder;
  Saving whole(folder.path() / "whole");
  whole.train();
  Saving stopped(folder.path());
  stopped.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  stopped.trainer.callbacks().add(AtUpdate(3, [](ta::Trainer&) { std::raise(SIGUSR2); }));
  const auto result = stopped.train();
  EXPECT_THAT(result.stop_reason, HasSubstr("StopOnSignal"));
  EXPECT_EQ(result.progress.update, 4);
  EXPECT_THAT(committed(folder), ElementsAre("update-000000004"));
  Saving again(folder.path());
  again.train(latest(folder));
  EXPECT_TRUE(equal_bits(*again.net, *whole.net));
}

TEST(StopOnSignal, GivesTheHandlersBack) {
  static int count = 0;
  count = 0;  // repeated, it starts anew
  std::signal(SIGUSR2, [](int) { ++count; });
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  saving.train();
  std::raise(SIGUSR2);
  EXPECT_EQ(count, 1);
  std::signal(SIGUSR2, SIG_DFL);
}

/// Raises a signal in the second batch of each evaluation, and counts the batches.
class SignalInEvaluation : public ta::Callback {
 public:
  void on_eval_step_end(ta::Trainer&, const ta::EvalStepEnd& event) override {
    if (event.batch_index == 1) std::raise(SIGUSR2);
    batches = event.batch_index + 1;
  }
  std::int64_t batches = 0;
};

TEST(StopOnSignal, EndsALongEvaluationEarlyUnlessItBelongsToACheckpoint) {
  for (const bool keeps : {false, true}) {
    const TempDir folder;
    Saving saving(folder.path());
    if (!keeps) saving.options.checkpoints.directory.clear();
    saving.options.eval_dataset = tiny_batch(120);
    saving.options.eval_per_device_batch_size = 1;
    saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
    const auto& evaluation = saving.trainer.callbacks().add(SignalInEvaluation());
    const auto result = saving.train();
    EXPECT_THAT(result.stop_reason, HasSubstr("StopOnSignal"));
    EXPECT_EQ(result.progress.epoch, 1);
    if (keeps) {
      EXPECT_EQ(evaluation.batches, 120);
      EXPECT_THAT(committed(folder), ElementsAre("update-000000004"));
    } else {
      EXPECT_LT(evaluation.batches, 120);
    }
  }
}

TEST(StopOnSignal, GivesTheHandlersBackWhenItGoesAfterARunThatFailed) {
  static int count = 0;
  count = 0;  // repeated, it starts anew
  std::signal(SIGUSR2, [](int) { ++count; });
  {
    const TempDir folder;
    Saving saving(folder.path());
    saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
    saving.trainer.callbacks().add(
        AtUpdate(3, [](ta::Trainer&) { throw std::runtime_error("the step fails"); }));
    EXPECT_THROW(saving.train(), ta::UserCodeError);
  }
  std::raise(SIGUSR2);
  EXPECT_EQ(count, 1);
  std::signal(SIGUSR2, SIG_DFL);
}

TEST(StopOnSignal, AsksForNothingOutsideARun) {
  const TempDir folder;
  Saving stopped(folder.path());
  stopped.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  stopped.trainer.callbacks().add(AtUpdate(3, [](ta::Trainer&) { std::raise(SIGUSR2); }));
  EXPECT_TRUE(stopped.train().was_stopped());
  Saving other(folder.path());
  other.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  other.trainer.evaluate(tiny_batch(8));
  EXPECT_FALSE(other.trainer.stop_requested());
}

TEST(StopOnSignal, LetsASecondSignalEndTheProcessAtOnce) {
  const TempDir folder;
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        Saving saving(folder.path());
        saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
        saving.trainer.callbacks().add(AtUpdate(3, [](ta::Trainer&) {
          std::raise(SIGUSR2);
          std::raise(SIGUSR2);
        }));
        saving.train();
      },
      testing::KilledBySignal(SIGUSR2), "");
}

TEST(StopOnSignal, RefusesSignalsWithoutHandlers) {
  EXPECT_THAT([] { ta::StopOnSignal({SIGKILL}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("signal 9")));
  EXPECT_THROW(ta::StopOnSignal(std::vector<int>()), ta::ArgumentError);
}

}  // namespace
}  // namespace tests::stop_on_signal_test
