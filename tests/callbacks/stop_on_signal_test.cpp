// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <csignal>

#include "support/saving_run.h"

namespace tests {
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
  std::signal(SIGUSR2, [](int) { ++count; });
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  saving.train();
  std::raise(SIGUSR2);
  EXPECT_EQ(count, 1);
  std::signal(SIGUSR2, SIG_DFL);
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
}  // namespace tests
