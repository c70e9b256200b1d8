// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/max_time.h"

#include <gmock/gmock.h>

#include <thread>

#include "support/tiny.h"

namespace tests {
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
  EXPECT_GE(stopped.progress.update, 3);  // the request comes after the second, at the earliest
  EXPECT_LT(stopped.progress.update, 10);
  EXPECT_FALSE(train(std::chrono::hours(1)).was_stopped());
}

TEST(MaxTime, RefusesATimeThatIsOverAtOnce) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::MaxTime(std::chrono::seconds(0)); }),
              testing::HasSubstr("MaxTime: limit must be more than 0 s, got 0 s"));
}

}  // namespace
}  // namespace tests
