// SPDX-License-Identifier: Apache-2.0
// Images with their channels last: other memory, the same numbers.
#include "accelerator/channels_last.h"

#include <gmock/gmock.h>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::channels_last_test {
namespace {

torch::nn::Sequential net_of_images() {
  const ta::SeedScope scope(4);
  torch::nn::Sequential net(torch::nn::Conv2d(torch::nn::Conv2dOptions(3, 4, 3).padding(1)),
                            torch::nn::BatchNorm2d(4), torch::nn::ReLU(),
                            torch::nn::Conv2d(torch::nn::Conv2dOptions(4, 2, 3).padding(1)),
                            torch::nn::Flatten(), torch::nn::Linear(2 * 6 * 6, 3));
  net->to(torch::kFloat64);
  return net;
}

ta::Batch images(std::int64_t rows) {
  const ta::SeedScope scope(5);
  return {{"data", torch::randn({rows, 3, 6, 6}, torch::kFloat64)},
          {"target", torch::randn({rows, 3}, torch::kFloat64)}};
}

bool is_last(const torch::Tensor& tensor) {
  return tensor.is_contiguous(at::MemoryFormat::ChannelsLast);
}

TEST(ChannelsLast, LaysOutFourDimensionsAndNoOthers) {
  auto net = net_of_images();
  const auto weight = net[0]->as<torch::nn::Conv2d>()->weight;
  const auto before = weight.detach().clone();
  ta::lay_out_channels_last(*net);
  EXPECT_TRUE(is_last(weight));
  EXPECT_TRUE(torch::equal(weight, before));
  EXPECT_TRUE(net[5]->as<torch::nn::Linear>()->weight.is_contiguous());

  const auto given = images(2);
  const auto moved = ta::in_channels_last(given);
  EXPECT_TRUE(is_last(moved["data"]));
  EXPECT_TRUE(torch::equal(moved["data"], given["data"]));
  EXPECT_TRUE(moved["target"].is_same(given["target"]));
  EXPECT_TRUE(ta::in_channels_last(moved)["data"].is_same(moved["data"])) << "copied for nothing";
}

/// Weights after some updates, by way of a checkpoint where `resumed`.
torch::nn::Sequential trained(bool last, bool fused, bool resumed = false) {
  const ta::testing::TempDir folder;
  ta::Accelerator accelerator({.device = "cpu", .fused_optimizers = fused, .channels_last = last});
  const auto train = [&](std::int64_t epochs, bool goes_on) {
    auto net = net_of_images();
    torch::optim::AdamW optimizer(net->parameters(), torch::optim::AdamWOptions(0.01));
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    ta::TrainOptions options{
        .num_epochs = 4, .per_device_batch_size = 4, .max_updates = epochs * 3};
    if (resumed) options.checkpoints.directory = folder.path() / "checkpoints";
    if (resumed) trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
    if (goes_on) options.resume_from = ta::latest_checkpoint(options.checkpoints.directory);
    options.resume_with_changes = true;  // it is to become longer
    trainer.train(images(12), options);
    EXPECT_EQ(trainer.run_config().memory.starts_with("channels last"), last);
    EXPECT_EQ(is_last(net->parameters()[0].grad().defined() ? net->parameters()[0].grad()
                                                            : net->parameters()[0]),
              last);
    return net;
  };
  if (resumed) train(2, false);
  return train(4, resumed);
}

TEST(ChannelsLast, TrainsToTheSameWeightsButForRounding) {
  for (const bool fused : {false, true}) {
    EXPECT_LT(relative_difference(*trained(true, fused), *trained(false, fused)), 1e-8);
  }
}

TEST(ChannelsLast, AResumedRunIsTheUninterruptedOne) {
  for (const bool fused : {false, true}) {
    EXPECT_TRUE(equal_bits(*trained(true, fused, true), *trained(true, fused))) << fused;
  }
}

}  // namespace
}  // namespace tests::channels_last_test
