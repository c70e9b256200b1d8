// SPDX-License-Identifier: Apache-2.0
// Accumulated micro-batches give what one big batch gives, short windows and batches included.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::accumulation_test {
namespace {

constexpr auto kFloat64 = torch::kFloat64;

struct Outcome {
  torch::nn::Sequential net;
  ta::RunResult result;
};

Outcome train(std::int64_t steps, ta::TrainOptions options, ta::LossFunction loss,
              std::int64_t rows = 43) {
  auto net = tiny_net(7, kFloat64);
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, std::move(loss), optimizer, ta::CallbackList());
  options.num_epochs = 3;
  options.global_batch_size = 16;
  options.gradient_accumulation_steps = steps;
  const auto result = trainer.train(tiny_batch(rows, 1, kFloat64), options);
  return {net, result};
}

// Rows 0, 1, 2 … of a batch weigh 0, 1, 2 or 3 tokens.
ta::Mean ragged_loss(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto tokens = (batch["data"].select(1, 0) * 10).floor().abs().remainder(4);
  const auto errors = (outputs.only() - batch["target"]).square().mean(1);
  return {(errors * tokens).sum(), tokens.sum()};
}

class Accumulation : public testing::TestWithParam<std::int64_t> {};

TEST_P(Accumulation, OfMeansOverRowsEqualsOneBigBatch) {
  const auto one = train(1, {}, torch::nn::MSELoss());
  const auto many = train(GetParam(), {}, torch::nn::MSELoss());
  EXPECT_LT(relative_difference(*one.net, *many.net), 1e-12);
  EXPECT_EQ(one.result.progress.update, 9);
  EXPECT_EQ(many.result.progress.update, 9);
  EXPECT_NEAR(one.result.metrics["train_loss"], many.result.metrics["train_loss"], 1e-12);
}

TEST_P(Accumulation, OfTokenWeightsEqualsOneBigBatch) {
  const auto one = train(1, {}, ragged_loss);
  const auto many = train(GetParam(), {}, ragged_loss);
  EXPECT_LT(relative_difference(*one.net, *many.net), 1e-12);
  EXPECT_NEAR(one.result.metrics["train_loss"], many.result.metrics["train_loss"], 1e-12);
}

TEST_P(Accumulation, WithClippingEqualsOneBigBatch) {
  ta::TrainOptions options;
  options.clip_gradient_norm = 0.05;
  options.clip_gradient_value = 0.02;
  const auto one = train(1, options, torch::nn::MSELoss());
  const auto many = train(GetParam(), options, torch::nn::MSELoss());
  EXPECT_LT(relative_difference(*one.net, *many.net), 1e-12);
  EXPECT_NEAR(one.result.metrics["train_gradient_norm"], many.result.metrics["train_gradient_norm"],
              1e-12);
}

INSTANTIATE_TEST_SUITE_P(Steps, Accumulation, testing::Values(2, 4, 8, 16));

TEST(Accumulation, OfAnUnsizedStreamEqualsOneBigBatch) {
  const auto all = tiny_batch(22, 1, kFloat64);
  const auto cut = [&](const std::vector<std::int64_t>& sizes) {
    std::vector<ta::Batch> batches;
    std::int64_t begin = 0;
    for (const auto size : sizes) {
      batches.push_back({{"data", all["data"].slice(0, begin, begin + size)},
                         {"target", all["target"].slice(0, begin, begin + size)}});
      begin += size;
    }
    return batches;
  };
  const auto run = [&](const std::vector<std::int64_t>& sizes, std::int64_t steps, bool sized) {
    auto net = tiny_net(7, kFloat64);
    auto optimizer = sgd(net);
    ListSource source(cut(sizes), sized);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
    const auto result =
        trainer.train(source, {.num_epochs = 2, .gradient_accumulation_steps = steps});
    EXPECT_EQ(result.progress.update, 4);
    return net;
  };
  const auto one = run({12, 10}, 1, false);
  for (const bool sized : {false, true}) {
    EXPECT_LT(relative_difference(*one, *run({5, 4, 3, 7, 3}, 3, sized)), 1e-12);
  }
}

TEST(Accumulation, FinishMakesAnUpdateOfAnOpenWindow) {
  const auto batch = tiny_batch(6, 1, kFloat64);
  auto net = tiny_net(7, kFloat64);
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.start({.gradient_accumulation_steps = 4});
  trainer.step(
      {{"data", batch["data"].slice(0, 0, 4)}, {"target", batch["target"].slice(0, 0, 4)}});
  trainer.step(
      {{"data", batch["data"].slice(0, 4, 6)}, {"target", batch["target"].slice(0, 4, 6)}});
  EXPECT_EQ(trainer.progress().update, 0);
  EXPECT_EQ(trainer.finish().progress.update, 1);

  auto by_hand = tiny_net(7, kFloat64);
  auto their_optimizer = sgd(by_hand);
  torch::mse_loss(by_hand->forward(batch["data"]), batch["target"]).backward();
  their_optimizer.step();
  EXPECT_LT(relative_difference(*net, *by_hand), 1e-15);
}

TEST(Accumulation, AnUpdateThatWeighsNothingIsSkippedAndCounted) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  std::vector<std::string> trace;
  ta::Trainer trainer(
      net,
      [](const ta::TensorDict& outputs, const ta::Batch&) {
        return ta::Mean((outputs.only() * 0).sum(), torch::zeros({}));
      },
      optimizer, ta::CallbackList(RecordingCallback(trace)));
  ta::set_log_level(ta::LogLevel::kOff);
  const auto result = trainer.train(
      tiny_batch(8), {.num_epochs = 1, .per_device_batch_size = 4, .scheduler = ta::cosine()});
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_EQ(result.progress.update, 2);
  EXPECT_EQ(result.progress.skipped_updates, 2);
  EXPECT_EQ(result.progress.learning_rate, 0.1) << "the schedule stands still at a skipped update";
  EXPECT_TRUE(equal_bits(*net, *tiny_net()));
  EXPECT_THAT(trace, testing::Contains("on_train_step_end 0 update 1 skipped"));
}

}  // namespace
}  // namespace tests::accumulation_test
