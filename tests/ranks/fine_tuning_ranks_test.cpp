// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "ranks/same_bits.h"
#include "support/tiny.h"
#include "torch_accelerated/callbacks/unfreeze_backbone.h"
#include "torch_accelerated/trainer/learning_rate_finder.h"

namespace tests::fine_tuning_ranks_test {
namespace {

ta::LearningRateFinderResult find(ta::Accelerator& accelerator, std::vector<std::string>& trace) {
  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(RecordingCallback(trace)), &accelerator);
  auto found = ta::find_learning_rate(
      trainer, tiny_batch(61, 1, torch::kFloat64),
      {.start_rate = 1e-3, .end_rate = 100, .updates = 40, .train = {.global_batch_size = 8}});
  EXPECT_TRUE(equal_bits(*net, *tiny_net(7, torch::kFloat64)));
  trainer.train(tiny_batch(61, 1, torch::kFloat64), {.num_epochs = 1, .global_batch_size = 8});
  expect_same_bits_everywhere(accelerator, net);
  return found;
}

// The losses are means over all rows, so that a sweep is the same on any number of ranks.
TEST(FineTuningRanks, TheLearningRateFinderSuggestsTheSameAsOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  std::vector<std::string> trace;
  const auto together = find(ranks, trace);
  const auto single = find(alone, trace);
  ASSERT_TRUE(single.steepest_descent && together.steepest_descent);
  EXPECT_EQ(*together.steepest_descent, *single.steepest_descent);
  EXPECT_EQ(together.tenth_of_minimum, single.tenth_of_minimum);
  EXPECT_EQ(together.diverged, single.diverged);
  ASSERT_EQ(together.losses.size(), single.losses.size());
  // Bit for bit the same on all ranks.
  const auto mine = torch::tensor(together.smoothed_losses, torch::kFloat64).unsqueeze(0);
  const auto all = ranks.gather(mine);
  for (std::int64_t rank = 0; rank < ranks.world_size(); ++rank) {
    EXPECT_TRUE(torch::equal(all[rank], mine[0]));
  }
  EXPECT_EQ(std::count(trace.begin(), trace.end(), "on_init_end"), 2);  // of two Trainers
}

TEST(FineTuningRanks, ParametersUnfrozenDuringARunAreReduced) {
  const auto trained = [](ta::Accelerator& accelerator) {
    auto net = tiny_net(7, torch::kFloat64);
    const ta::ModelFreezer freezer(*net);
    freezer.freeze();
    torch::optim::SGD optimizer(freezer.trainable_parameters(), torch::optim::SGDOptions(0.1));
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::UnfreezeBackbone({.epoch = 2})), &accelerator);
    trainer.train(tiny_batch(61, 1, torch::kFloat64), {.num_epochs = 4, .global_batch_size = 8});
    EXPECT_EQ(optimizer.param_groups().size(), 2U);
    return net;
  };
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto net = trained(ranks);
  EXPECT_LE(relative_difference(*net, *trained(alone)), 1e-12);
  expect_same_bits_everywhere(ranks, net);
}

}  // namespace
}  // namespace tests::fine_tuning_ranks_test
