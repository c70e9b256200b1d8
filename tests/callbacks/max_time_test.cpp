// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/max_time.h"

#include <gmock/gmock.h>

#include <thread>

#include "callbacks/fails_after_loading.h"
#include "support/tiny.h"

namespace tests::max_time_test {
namespace {

TEST(MaxTime, StopsARunThatLastsLonger) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  const auto train = [&](std::chrono::milliseconds limit) {
    ta::Trainer trainer(
        net, torch::nn::MSELoss(), optimizer,
        ta::CallbackList(ta::MaxTime(limit), AtStepEnd([](auto&, const auto&) {
                           std::this_thread::sleep_for(std::chrono::milliseconds(5));
                         })));
    return trainer.train(tiny_batch(40), {.num_epochs = 1, .per_device_batch_size = 4});
  };
  const auto stopped = train(std::chrono::milliseconds(8));
  EXPECT_EQ(stopped.stop_reason, "MaxTime: the run has lasted for 0.008 s");
  // Requested after the third at the latest, which two sleeps come before, and heard of in the
  // next.
  EXPECT_GE(stopped.progress.update, 2);
  EXPECT_LE(stopped.progress.update, 4);
  EXPECT_FALSE(train(std::chrono::hours(1)).was_stopped());
}

TEST(MaxTime, GoesOnFromItsState) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::MaxTime limit(std::chrono::seconds(60));
  limit.load_state(ta::State().set("seconds", 61.0));
  EXPECT_GE(limit.state().get<double>("seconds"), 61.0);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(std::move(limit)));
  const ta::TrainOptions options{.num_epochs = 1, .per_device_batch_size = 4};
  EXPECT_TRUE(trainer.train(tiny_batch(40), options).was_stopped());
  EXPECT_FALSE(trainer.train(tiny_batch(40), options).was_stopped());  // a new run, a new clock
}

TEST(MaxTime, BeginsAnewAfterARunThatFailedWhileItWentOn) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(
      net, torch::nn::MSELoss(), optimizer,
      ta::CallbackList(ta::MaxTime(std::chrono::seconds(60)),
                       FailsAfterLoading<ta::MaxTime>(ta::State().set("seconds", 61.0))));
  const ta::TrainOptions options{.num_epochs = 1, .per_device_batch_size = 4};
  EXPECT_THROW(trainer.train(tiny_batch(40), options), ta::UserCodeError);
  EXPECT_FALSE(trainer.train(tiny_batch(40), options).was_stopped());
}

TEST(MaxTime, RefusesATimeThatIsOverAtOnce) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::MaxTime(std::chrono::seconds(0)); }),
              testing::HasSubstr("MaxTime: limit must be more than 0 s, got 0 s"));
}

}  // namespace
}  // namespace tests::max_time_test
