// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/tiny.h"

namespace tests::small_step_test {
namespace {

/// Notes how many threads operations have in training steps and in evaluation.
class ThreadCounter : public ta::Trainer {
 public:
  using Trainer::Trainer;
  std::vector<int> training;
  std::vector<int> evaluation;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    training.push_back(at::get_num_threads());
    return Trainer::calculate_train_batch_loss(batch);
  }
  ta::StepOutput calculate_eval_batch_loss(const ta::Batch& batch) override {
    evaluation.push_back(at::get_num_threads());
    return Trainer::calculate_eval_batch_loss(batch);
  }
};

class SmallSteps : public testing::Test {
 protected:
  SmallSteps() { at::set_num_threads(2); }
  ~SmallSteps() override { at::set_num_threads(threads_before_); }

  // The threads of the first step of a run, after which there are two again.
  static int threads_of_step(const torch::nn::Sequential& net, const ta::Batch& rows,
                             const ta::AcceleratorOptions& of_accelerator = {.device = "cpu"},
                             ta::TrainOptions options = {}) {
    ta::Accelerator accelerator(of_accelerator);
    auto optimizer = sgd(net);
    ThreadCounter trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    options.num_epochs = 1;
    options.eval_dataset = rows;
    trainer.train(rows, options);
    EXPECT_EQ(at::get_num_threads(), 2);
    EXPECT_EQ(trainer.evaluation.front(), 2);
    return trainer.training.front();
  }

 private:
  int threads_before_ = at::get_num_threads();
};

torch::nn::Sequential wide_net(std::int64_t width) {
  return torch::nn::Sequential(torch::nn::Linear(4, width), torch::nn::Linear(width, 3));
}

TEST_F(SmallSteps, HaveOneThread) { EXPECT_EQ(threads_of_step(tiny_net(), tiny_batch(16)), 1); }

TEST_F(SmallSteps, MayBeTurnedOff) {
  EXPECT_EQ(threads_of_step(tiny_net(), tiny_batch(16),
                            {.device = "cpu", .small_steps_on_one_thread = false}),
            2);
}

TEST_F(SmallSteps, AreThoseOfFewWeightsAndRows) {
  constexpr std::int64_t width = 4096;  // 8 weights each and 3 more: 2^15 + 3
  EXPECT_EQ(threads_of_step(wide_net(width), tiny_batch(127), {.device = "cpu"},
                            {.per_device_batch_size = 127}),
            1);
  EXPECT_EQ(threads_of_step(wide_net(width), tiny_batch(128), {.device = "cpu"},
                            {.per_device_batch_size = 128}),
            2);
}

TEST_F(SmallSteps, GoByTheRowsOfEachMicroBatchWhereverItComesFrom) {
  ta::Accelerator accelerator({.device = "cpu"});
  auto net = wide_net(4096);
  torch::optim::SGD optimizer(net->parameters(), 1e-6);
  ThreadCounter trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  ListSource source({tiny_batch(127), tiny_batch(128), tiny_batch(5)});
  trainer.train(source, {.num_epochs = 1});
  EXPECT_EQ(trainer.training, (std::vector<int>{1, 2, 1}));
  trainer.train(tiny_batch(128 + 100), {.num_epochs = 1, .per_device_batch_size = 128});
  EXPECT_EQ(trainer.training, (std::vector<int>{1, 2, 1, 2, 1}));
  trainer.start({});
  trainer.step(tiny_batch(3));
  trainer.finish();
  EXPECT_EQ(trainer.training.back(), 1);
}

TEST_F(SmallSteps, AreNotThoseOnSequences) {
  const ta::Batch rows{{"data", torch::randn({16, 5, 4})}, {"target", torch::randn({16, 5, 3})}};
  EXPECT_EQ(threads_of_step(tiny_net(), rows), 2);
}

TEST_F(SmallSteps, AreNotThoseOfConvolutions) {
  torch::nn::Sequential net(torch::nn::Unflatten(torch::nn::UnflattenOptions(1, {1, 4})),
                            torch::nn::Conv1d(torch::nn::Conv1dOptions(1, 3, 4)),
                            torch::nn::Flatten());
  EXPECT_EQ(threads_of_step(net, tiny_batch(16)), 2);
}

TEST_F(SmallSteps, LeaveADeterministicRunItsThreads) {
  EXPECT_EQ(threads_of_step(tiny_net(), tiny_batch(16), {.device = "cpu"},
                            {.deterministic_shards = 2, .deterministic_threads = 2}),
            2);
}

TEST_F(SmallSteps, GiveThreadsBackWhenAStepThrows) {
  ta::Accelerator accelerator({.device = "cpu"});
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(
      net, [](const auto&, const auto&) -> ta::Mean { throw std::runtime_error("no loss"); },
      optimizer, ta::CallbackList(), &accelerator);
  EXPECT_ANY_THROW(trainer.train(tiny_batch(16), {.num_epochs = 1}));
  EXPECT_EQ(at::get_num_threads(), 2);
}

}  // namespace
}  // namespace tests::small_step_test
