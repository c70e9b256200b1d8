// SPDX-License-Identifier: Apache-2.0
// Verdicts that are late are so on all ranks alike. On the CPU they are asked for; a GPU has them
// by default.
#include <gmock/gmock.h>

#include <cmath>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::late_verdict_ranks_test {
namespace {

using testing::HasSubstr;

ta::AcceleratorOptions late() { return {.device = "cpu", .verdicts = ta::Verdicts::kLate}; }

torch::optim::AdamW adamw(const torch::nn::Module& net) {
  return torch::optim::AdamW(net.parameters(), torch::optim::AdamWOptions(0.01).weight_decay(0.1));
}

constexpr auto kOptions = [] {
  return ta::TrainOptions{.num_epochs = 2, .global_batch_size = 8, .clip_gradient_norm = 0.5};
};

TEST(LateVerdicts, GiveTheBitsOfThoseAtOnceOnAllRanks) {
  const auto trained = [](ta::Verdicts verdicts, ta::Overlap overlap) {
    ta::Accelerator ranks({.device = "cpu", .verdicts = verdicts, .overlap = overlap});
    auto net = tiny_net();
    auto optimizer = adamw(*net);
    ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks)
        .train(tiny_batch(45), kOptions());
    expect_same_bits_everywhere(ranks, net);
    return net;
  };
  for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
    const auto oracle = trained(ta::Verdicts::kAtOnce, overlap);
    EXPECT_TRUE(equal_bits(*trained(ta::Verdicts::kLate, overlap), *oracle));
  }
}

// Of 8 rows an update, the last of the third update, which the last rank has, makes its loss NaN.
TEST(LateVerdicts, ThrowOnAllRanksWhereOneRanksLossIsNotFinite) {
  ta::Accelerator ranks(late());
  auto rows = tiny_batch(64);
  rows["target"][23] = std::nan("");
  auto net = tiny_net();
  auto optimizer = adamw(*net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  std::int64_t updates = 0;
  trainer.callbacks().add(
      AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) { updates = event.updates; }));
  auto options = kOptions();
  options.train_loader.shuffle = false;
  const auto message = message_of<ta::NumericError>([&] { trainer.train(rows, options); });
  const auto who = ranks.world_size() == 1
                       ? std::string(" at update 2")
                       : " on rank " + std::to_string(ranks.world_size() - 1) + " at update 2";
  EXPECT_THAT(message, HasSubstr("the loss is not finite" + who));
  EXPECT_EQ(updates, 3) << "the next update was on its way";
  expect_same_bits_everywhere(ranks, net);
}

TEST(LateVerdicts, StopAllRanksWhereOneAsks) {
  ta::Accelerator ranks(late());
  auto net = tiny_net();
  auto optimizer = adamw(*net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
    const bool is_last_rank = ranks.rank() == ranks.world_size() - 1;
    if (event.update_ended && event.updates == 3 && is_last_rank) of.request_stop("one of us");
  }));
  const auto result = trainer.train(tiny_batch(128), kOptions());
  EXPECT_EQ(result.stop_reason, "one of us");
  EXPECT_EQ(result.progress.update, 5);
  expect_same_bits_everywhere(ranks, net);
}

// Takes its second layer only for some rows; the last is never taken.
struct BranchesImpl : torch::nn::Module {
  torch::nn::Linear first = register_module("first", torch::nn::Linear(4, 3));
  torch::nn::Linear second = register_module("second", torch::nn::Linear(3, 3));
  torch::nn::Linear never = register_module("never", torch::nn::Linear(3, 3));
  torch::Tensor forward(const torch::Tensor& rows) {
    const auto out = first(rows);
    return rows.select(1, 0).max().item<float>() > 0.5F ? second(out) : out;
  }
};
TORCH_MODULE(Branches);

TEST(LateVerdicts, LeaveParametersThatNoRankReachesWithoutAGradient) {
  const auto trained = [](ta::Verdicts verdicts) {
    ta::Accelerator ranks({.device = "cpu", .verdicts = verdicts});
    const auto net = [] {
      const ta::SeedScope scope(3);
      return Branches();
    }();
    auto optimizer = adamw(*net);
    ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks)
        .train(tiny_batch(45), kOptions());
    return net;
  };
  const auto net = trained(ta::Verdicts::kLate);
  EXPECT_TRUE(equal_bits(*net, *trained(ta::Verdicts::kAtOnce)));
  const auto untouched = [] {
    const ta::SeedScope scope(3);
    return Branches();
  }();
  EXPECT_TRUE(torch::equal(net->never->weight, untouched->never->weight)) << "decayed";
}

}  // namespace
}  // namespace tests::late_verdict_ranks_test
