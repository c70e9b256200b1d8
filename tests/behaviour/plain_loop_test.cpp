// SPDX-License-Identifier: Apache-2.0
// One process without accumulation does the operations of a loop written by hand: equal to the bit.
#include <gmock/gmock.h>

#include "support/tiny.h"
#include "torch_accelerated/data/permutation.h"

namespace tests::plain_loop_test {
namespace {

constexpr std::int64_t kRows = 50;
constexpr std::int64_t kBatch = 8;
constexpr std::uint64_t kSeed = 4;

// Rows in the order that a Trainer with that seed reads them.
torch::Tensor order_of(std::int64_t epoch) {
  const ta::KeyedPermutation permutation(kRows, kSeed, epoch);
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < kRows; ++i) rows.push_back(permutation(i));
  return torch::tensor(rows);
}

template <class Optimizer>
void train_by_hand(torch::nn::Sequential& net, Optimizer& optimizer, const ta::Batch& all,
                   std::int64_t epochs) {
  net->train();
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    const auto order = order_of(epoch);
    for (std::int64_t begin = 0; begin < kRows; begin += kBatch) {
      const auto rows = order.slice(0, begin, std::min(begin + kBatch, kRows));
      optimizer.zero_grad();
      const auto output = net->forward(all["data"].index_select(0, rows));
      torch::mse_loss(output, all["target"].index_select(0, rows)).backward();
      optimizer.step();
    }
  }
}

ta::TrainOptions options() {
  return {.num_epochs = 3, .per_device_batch_size = kBatch, .seed = kSeed};
}

TEST(PlainLoop, HasTheTrainersWeightsBitForBitWithSgd) {
  const auto all = tiny_batch(kRows);
  auto by_hand = tiny_net();
  auto their_optimizer = sgd(by_hand);
  train_by_hand(by_hand, their_optimizer, all, 3);

  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()).train(all, options());
  EXPECT_TRUE(equal_bits(*net, *by_hand));
}

TEST(PlainLoop, HasTheTrainersWeightsBitForBitWithAdamWAndDropout) {
  const auto make = [] {
    const ta::SeedScope scope(7);
    return torch::nn::Sequential(torch::nn::Linear(4, 16), torch::nn::Dropout(0.5),
                                 torch::nn::Linear(16, 3));
  };
  const auto all = tiny_batch(kRows);
  auto by_hand = make();
  torch::optim::AdamW their_optimizer(by_hand->parameters(), torch::optim::AdamWOptions(0.01));
  auto net = make();
  torch::optim::AdamW optimizer(net->parameters(), torch::optim::AdamWOptions(0.01));
  {
    const ta::SeedScope scope(2);
    train_by_hand(by_hand, their_optimizer, all, 3);
  }
  {
    const ta::SeedScope scope(2);
    ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()).train(all, options());
  }
  EXPECT_TRUE(equal_bits(*net, *by_hand));
}

TEST(PlainLoop, IsNotChangedByEvaluationMetricsOrWorkers) {
  const auto all = tiny_batch(kRows);
  auto by_hand = tiny_net();
  auto their_optimizer = sgd(by_hand);
  train_by_hand(by_hand, their_optimizer, all, 3);

  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.add_metric(
      "first",
      [](const ta::TensorDict& outputs, const ta::Batch&) {
        return outputs.only().select(1, 0).mean();
      },
      ta::MetricPhases::kTrainingAndEvaluation);
  auto with_more = options();
  with_more.eval_dataset = tiny_batch(13, 2);
  with_more.train_loader.num_workers = 3;
  trainer.train(all, with_more);
  EXPECT_TRUE(equal_bits(*net, *by_hand));
}

TEST(PlainLoop, HasTheWeightsOfStartStepAndFinish) {
  const auto all = tiny_batch(kRows);
  auto by_hand = tiny_net();
  auto their_optimizer = sgd(by_hand);
  train_by_hand(by_hand, their_optimizer, all, 1);

  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.start({});
  const auto order = order_of(0);
  for (std::int64_t begin = 0; begin < kRows; begin += kBatch) {
    const auto rows = order.slice(0, begin, std::min(begin + kBatch, kRows));
    trainer.step({{"data", all["data"].index_select(0, rows)},
                  {"target", all["target"].index_select(0, rows)}});
  }
  EXPECT_EQ(trainer.finish().progress.update, 7);
  EXPECT_TRUE(equal_bits(*net, *by_hand));
}

}  // namespace
}  // namespace tests::plain_loop_test
