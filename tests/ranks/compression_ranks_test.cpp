// SPDX-License-Identifier: Apache-2.0
// Gradients that travel between ranks in half precision.
#include <gmock/gmock.h>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::compression_ranks_test {
namespace {

using testing::HasSubstr;

ta::Accelerator accelerator_of(ta::GradientCompression compression, ta::Overlap overlap) {
  return ta::Accelerator(
      {.device = "cpu", .overlap = overlap, .gradient_compression = compression});
}

torch::nn::Sequential trained(ta::GradientCompression compression, ta::Overlap overlap,
                              torch::Dtype dtype = torch::kFloat32) {
  auto ranks = accelerator_of(compression, overlap);
  auto net = tiny_net(7, dtype);
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  trainer.train(tiny_batch(32, 1, dtype), {.num_epochs = 5, .global_batch_size = 8});
  expect_same_bits_everywhere(ranks, net);
  if (ranks.world_size() > 1 && compression != ta::GradientCompression::kNone) {
    EXPECT_THAT(trainer.run_config().reduction,
                HasSubstr(std::string("KiB in ") + ta::to_string(compression)));
  }
  return net;
}

TEST(GradientCompression, RoundsWhatTravelsAndKeepsTheRanksEqual) {
  const int ranks = ta::Accelerator({.device = "cpu"}).world_size();
  const auto plain = trained(ta::GradientCompression::kNone, ta::Overlap::kOff);
  for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
    for (const auto& [compression, bound] : {std::pair(ta::GradientCompression::kBf16, 1.0 / 128),
                                             {ta::GradientCompression::kFp16, 1.0 / 1024}}) {
      const auto net = trained(compression, overlap);
      EXPECT_LT(relative_difference(*net, *plain), bound) << ta::to_string(compression);
      EXPECT_EQ(equal_bits(*net, *plain), ranks == 1) << "nothing was compressed, or too much";
    }
  }
}

TEST(GradientCompression, LeavesFloat64AsItIs) {
  EXPECT_TRUE(
      equal_bits(*trained(ta::GradientCompression::kBf16, ta::Overlap::kOff, torch::kFloat64),
                 *trained(ta::GradientCompression::kNone, ta::Overlap::kOff, torch::kFloat64)));
}

TEST(GradientCompression, AnOverflowNeverReachesTheWeights) {
  auto ranks = accelerator_of(ta::GradientCompression::kFp16, ta::Overlap::kOff);
  if (ranks.world_size() == 1) return;  // nothing travels
  auto net = tiny_net();
  auto optimizer = sgd(net);
  auto rows = tiny_batch(8);
  rows["target"][0] = 1e6;
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  EXPECT_THAT(message_of<ta::NumericError>(
                  [&] { trainer.train(rows, {.num_epochs = 1, .global_batch_size = 8}); }),
              HasSubstr("a gradient that was compressed to fp16 is not finite"));
  EXPECT_TRUE(equal_bits(*net, *tiny_net()));
}

TEST(GradientCompression, IsRefusedWithDeterministicShards) {
  auto ranks = accelerator_of(ta::GradientCompression::kBf16, ta::Overlap::kOff);
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                trainer.train(tiny_batch(8),
                              {.num_epochs = 1, .global_batch_size = 8, .deterministic_shards = 4});
              }),
              HasSubstr("deterministic_shards and gradient_compression exclude each other"));
}

}  // namespace
}  // namespace tests::compression_ranks_test
