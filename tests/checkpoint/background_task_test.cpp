// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_task.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>

namespace torch_accelerated::background_task_test {
namespace {

TEST(BackgroundTask, WorksBesideTheCallersThread) {
  BackgroundTask task;
  std::promise<void> go;
  std::thread::id worker;
  task.start([&worker, ready = go.get_future().share()] {
    ready.wait();
    worker = std::this_thread::get_id();
  });
  go.set_value();  // reached while the work waits for it
  task.wait();
  EXPECT_NE(worker, std::thread::id());
  EXPECT_NE(worker, std::this_thread::get_id());
}

TEST(BackgroundTask, ThrowsWhatTheWorkThrewOnceAndCanBeUsedAgain) {
  BackgroundTask task;
  task.start([] { throw std::runtime_error("disk"); });
  EXPECT_THROW(task.wait(), std::runtime_error);
  EXPECT_NO_THROW(task.wait());
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    task.start([&done] { ++done; });
    task.wait();
  }
  EXPECT_EQ(done, 100);
}

TEST(BackgroundTask, WaitsForItsWorkAtItsEnd) {
  const auto done = std::make_shared<bool>(false);
  {
    std::promise<void> go;
    BackgroundTask task;
    task.start([done, ready = go.get_future().share()] {
      ready.wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      *done = true;
    });
    go.set_value();
  }
  EXPECT_TRUE(*done);
  BackgroundTask failing;  // whose error nobody asks for
  failing.start([] { throw 42; });
}

TEST(BackgroundTask, WaitsForNothingWhereNothingWasStarted) {
  BackgroundTask task;
  EXPECT_NO_THROW(task.wait());
}

}  // namespace
}  // namespace torch_accelerated::background_task_test
