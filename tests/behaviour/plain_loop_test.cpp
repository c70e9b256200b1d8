// SPDX-License-Identifier: Apache-2.0
// One process without accumulation does the operations of a loop written by hand: equal to the bit.
#include <ATen/ops/_fused_sgd.h>
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

// ATen's kernel as one calls it by hand, with the numbers of sgd().
class FusedSgd {
 public:
  explicit FusedSgd(std::vector<torch::Tensor> parameters) : parameters_(std::move(parameters)) {
    for (const auto& parameter : parameters_) momenta_.push_back(torch::empty_like(parameter));
  }

  void zero_grad() {
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }

  void step() {
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> gradients;
    for (const auto& parameter : parameters_) gradients.push_back(parameter.grad());
    at::_fused_sgd_(parameters_, gradients, momenta_, /*weight_decay=*/0, /*momentum=*/0.9,
                    /*lr=*/0.1, /*dampening=*/0, /*nesterov=*/false, /*maximize=*/false,
                    std::exchange(begins_, false));
  }

 private:
  std::vector<torch::Tensor> parameters_;
  std::vector<torch::Tensor> momenta_;
  bool begins_ = true;
};

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
  PlainAccelerator plain;
  ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &plain)
      .train(all, options());
  EXPECT_TRUE(equal_bits(*net, *by_hand));
}

// A loop that steps as Trainers do where nothing else is asked for.
TEST(PlainLoop, HasTheTrainersWeightsBitForBitWithFusedSgd) {
  const auto all = tiny_batch(kRows);
  auto by_hand = tiny_net();
  FusedSgd their_optimizer(by_hand->parameters());
  train_by_hand(by_hand, their_optimizer, all, 3);

  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.train(all, options());
  EXPECT_EQ(trainer.run_config().optimizer_steps, "fused");
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
    PlainAccelerator plain;
    ta::Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &plain)
        .train(all, options());
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
  PlainAccelerator plain;
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &plain);
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
  PlainAccelerator plain;
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &plain);
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
