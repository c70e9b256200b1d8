// SPDX-License-Identifier: Apache-2.0
// Gradients that overflow on one rank in fp16: all ranks leave the update out.
#include <gmock/gmock.h>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::loss_scaling_ranks_test {
namespace {

// Of 8 rows an update, the last one of the second update is so far away that its gradient
// overflows in fp16; the last rank has it.
ta::Batch rows_with_one_far_away() {
  auto rows = tiny_batch(32);
  rows["target"][15] = 6e4;
  return rows;
}

TEST(LossScaling, AnOverflowOnOneRankSkipsTheUpdateOnAll) {
  ta::Accelerator ranks({.device = "cpu",
                         .mixed_precision = ta::MixedPrecision::kFp16,
                         .loss_scaling = {.initial_scale = 256}});
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  std::vector<bool> skipped;
  std::vector<double> rates;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
    skipped.push_back(event.update_skipped);
    rates.push_back(of.optimizer().param_groups()[0].options().get_lr());
  }));
  trainer.train(rows_with_one_far_away(), {.num_epochs = 1,
                                           .global_batch_size = 8,
                                           .scheduler = ta::cosine({}),
                                           .train_loader = {.shuffle = false}});
  EXPECT_THAT(skipped, testing::ElementsAre(false, true, false, false));
  EXPECT_EQ(rates[1], rates[0]) << "the schedule went on at the update that was left out";
  EXPECT_LT(rates[2], rates[1]);
  EXPECT_EQ(trainer.history().latest("loss_scale"), 128);
  EXPECT_EQ(trainer.history().latest("skipped_updates"), 1);
  expect_same_bits_everywhere(ranks, net);
}

TEST(LossScaling, AFixedScaleGivesTheGradientsOfPlainRanks) {
  const auto trained = [](ta::MixedPrecision precision) {
    ta::Accelerator ranks({.device = "cpu",
                           .mixed_precision = precision,
                           .loss_scaling = {.initial_scale = 1024, .growth_factor = 1}});
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net);
    ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks)
        .train(tiny_batch(21, 1, torch::kFloat64), {.num_epochs = 2,
                                                    .global_batch_size = 8,
                                                    .gradient_accumulation_steps = 2,
                                                    .clip_gradient_norm = 0.1});
    return net;
  };
  EXPECT_TRUE(equal_bits(*trained(ta::MixedPrecision::kFp16), *trained(ta::MixedPrecision::kNo)));
}

}  // namespace
}  // namespace tests::loss_scaling_ranks_test
