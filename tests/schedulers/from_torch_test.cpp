// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/from_torch.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::from_torch_test {
namespace {

using testing::HasSubstr;

double rate_of(const torch::optim::Optimizer& optimizer, std::size_t group = 0) {
  return optimizer.param_groups()[group].options().get_lr();
}

const ta::SchedulerFactory& steps_of_three() {
  static const auto factory = ta::from_torch(
      [](torch::optim::Optimizer& of) {
        return std::make_unique<torch::optim::StepLR>(of, 3, 0.5);
      },
      "StepLR");
  return factory;
}

TEST(FromTorch, StepsAForeignSchedulerAndResumesItByReplay) {
  auto net = tiny_net();
  auto plain_optimizer = sgd(net, 0.8);
  torch::optim::StepLR plain(plain_optimizer, 3, 0.5);
  auto optimizer = std::make_unique<torch::optim::SGD>(sgd(net, 0.8));
  auto scheduler = steps_of_three()(*optimizer, {});
  EXPECT_EQ(scheduler->name(), "StepLR");
  for (int update = 0; update < 15; ++update) {
    EXPECT_EQ(rate_of(*optimizer), rate_of(plain_optimizer)) << "at update " << update;
    plain.step();
    scheduler->step();
    // Over a fresh optimizer with another rate, whose own scheduler has gone on already.
    const auto state = scheduler->state();
    auto fresh = std::make_unique<torch::optim::SGD>(sgd(net, 0.3));
    scheduler = steps_of_three()(*fresh, {});
    for (int i = 0; i < 4; ++i) scheduler->step();
    scheduler->load_state(state);
    optimizer = std::move(fresh);
  }
  EXPECT_LT(rate_of(*optimizer), 0.1);
}

TEST(FromTorch, KeepsARateThatWasSetByHandDuringTheRun) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.8);
  const auto scheduler = steps_of_three()(optimizer, {});
  scheduler->step();
  optimizer.param_groups()[0].options().set_lr(0.6);
  auto fresh = sgd(net, 0.8);
  const auto resumed = steps_of_three()(fresh, {});
  resumed->load_state(scheduler->state());
  for (int update = 0; update < 8; ++update) {
    EXPECT_EQ(rate_of(fresh), rate_of(optimizer));
    scheduler->step();
    resumed->step();
  }
  EXPECT_LT(rate_of(fresh), 0.6);
}

class Halved : public torch::optim::LRScheduler {
 public:
  using LRScheduler::LRScheduler;

 private:
  std::vector<double> get_lrs() override {
    auto rates = get_current_lrs();
    for (auto& rate : rates) rate /= 2;
    return rates;
  }
};

TEST(FromTorch, HasOtherSettingsForAnotherTypeAndOtherRates) {
  const auto settings_of = [net = tiny_net()](const ta::SchedulerFactory& factory, double rate) {
    auto optimizer = sgd(net, rate);
    return factory(optimizer, {})->settings();
  };
  const auto halved = ta::from_torch(
      [](torch::optim::Optimizer& of) { return std::make_unique<Halved>(of); }, "StepLR");
  const auto settings = settings_of(steps_of_three(), 0.8);
  EXPECT_EQ(settings, "torch::optim::StepLR from 0.8, at 0.8");
  EXPECT_NE(settings_of(steps_of_three(), 0.7), settings);
  EXPECT_NE(settings_of(halved, 0.8), settings);
}

TEST(FromTorch, RefusesWhatItCannotMakeOrResume) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::from_torch({}, ""); }),
              testing::AllOf(HasSubstr("the scheduler is empty"), HasSubstr("the name is empty")));
  const auto null = ta::from_torch(
      [](torch::optim::Optimizer&) { return std::unique_ptr<torch::optim::LRScheduler>(); });
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { null(optimizer, {}); }), HasSubstr("gave null"));

  const auto scheduler = steps_of_three()(optimizer, {});
  const auto state = scheduler->state();
  torch::optim::OptimizerParamGroup group({torch::ones({1}, torch::requires_grad())});
  group.set_options(std::make_unique<torch::optim::SGDOptions>(0.4));
  optimizer.add_param_group(group);
  EXPECT_THAT(message_of<ta::StateError>([&] { scheduler->load_state(state); }),
              HasSubstr("the state is of 1 param groups, the optimizer has 2"));
  EXPECT_EQ(rate_of(optimizer, 1), 0.4);
}

}  // namespace
}  // namespace tests::from_torch_test
