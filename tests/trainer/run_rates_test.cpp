// SPDX-License-Identifier: Apache-2.0
// Learning rates and momenta in the history, and given back when a run has ended.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::run_rates_test {
namespace {

/// Adds the last layer as a param group of its own in the middle of the second epoch.
class AddsGroup : public ta::Callback {
 public:
  explicit AddsGroup(std::vector<torch::Tensor> parameters) : parameters_(std::move(parameters)) {}
  void on_train_epoch_start(ta::Trainer& trainer, const ta::TrainEpochStart& event) override {
    if (event.epoch != 2) return;
    trainer.optimizer().add_param_group(
        {parameters_,
         std::make_unique<torch::optim::SGDOptions>(torch::optim::SGDOptions(0.05).momentum(0.5))});
  }

 private:
  std::vector<torch::Tensor> parameters_;
};

struct Growing {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  torch::optim::SGD optimizer{net[0]->as<torch::nn::Linear>()->parameters(),
                              torch::optim::SGDOptions(0.1).momentum(0.9)};
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(AddsGroup(net[2]->as<torch::nn::Linear>()->parameters()))};

  ta::RunResult train() {
    return trainer.train(
        tiny_batch(16, 1, torch::kFloat64),
        {.num_epochs = 3, .per_device_batch_size = 4, .scheduler = ta::one_cycle({})});
  }

  void expect_given_back() {
    auto& groups = optimizer.param_groups();
    ASSERT_EQ(groups.size(), 2U);
    const auto momentum = [&](std::size_t group) {
      return static_cast<torch::optim::SGDOptions&>(groups[group].options()).momentum();
    };
    EXPECT_EQ(groups[0].options().get_lr(), 0.1);
    EXPECT_EQ(momentum(0), 0.9);
    EXPECT_EQ(groups[1].options().get_lr(), 0.05);
    EXPECT_EQ(momentum(1), 0.5);
  }
};

TEST(RunRates, OfAGroupThatWasAddedInTheRunAreGivenBackAtItsEnd) {
  Growing growing;
  growing.train();
  EXPECT_NE(growing.trainer.history().rows().back().metrics["learning_rate_1"], 0.05);
  growing.expect_given_back();
}

TEST(RunRates, OfAGroupThatWasAddedInTheRunAreGivenBackAfterAnException) {
  Growing growing;
  growing.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    if (trainer.progress().update == 10) throw std::runtime_error("enough");
  }));
  EXPECT_THROW(growing.train(), ta::UserCodeError);
  growing.expect_given_back();
}

/// A Trainer whose steps do all by themselves.
class ByHand : public ta::Trainer {
 public:
  using Trainer::Trainer;

 protected:
  ta::StepOutput train_step(const ta::Batch& batch) override {
    auto output = calculate_train_batch_loss(batch);
    output.loss.numerator().backward();
    optimizer().step();
    optimizer().zero_grad();
    return output;
  }
};

TEST(RunRates, StandInTheHistoryAlsoWhereStepsLeaveTheAcceleratorOut) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.01);
  ByHand trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.train(tiny_batch(8), {.num_epochs = 1});
  EXPECT_EQ(trainer.history().rows().back().metrics["learning_rate"], 0.01);
  optimizer.param_groups().front().options().set_lr(0.02);
  trainer.train(tiny_batch(8), {.num_epochs = 1});
  EXPECT_EQ(trainer.history().rows().back().metrics["learning_rate"], 0.02);
}

}  // namespace
}  // namespace tests::run_rates_test
