// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/unfreeze_backbone.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::unfreeze_backbone_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Two linear layers and a dropout before a head; all but the head frozen.
struct Fixture {
  torch::nn::Sequential net = make_net();
  ta::ModelFreezer freezer{*net};
  torch::optim::SGD optimizer{(freezer.freeze(), freezer.trainable_parameters()),
                              torch::optim::SGDOptions(0.1).momentum(0.9)};
  std::vector<std::string> rates = {};  // of all param groups, one entry an epoch
  std::function<void(std::int64_t epoch)> look = [](std::int64_t) {};

  static torch::nn::Sequential make_net() {
    return torch::nn::Sequential(torch::nn::Linear(4, 5), torch::nn::Linear(5, 5),
                                 torch::nn::Dropout(0.5), torch::nn::Linear(5, 3));
  }

  ta::Trainer trainer_with(ta::UnfreezeBackbone callback) {
    return {net, torch::nn::MSELoss(), optimizer,
            ta::CallbackList(std::move(callback), AtStepEnd([this](auto&, const auto& event) {
                               look(event.epoch);
                               std::string text;
                               for (const auto& group : optimizer.param_groups()) {
                                 text += (text.empty() ? "" : " ") +
                                         std::to_string(group.options().get_lr()).substr(0, 5);
                               }
                               rates.push_back(text);
                             }))};
  }
};

// One update an epoch.
ta::TrainOptions epochs(std::int64_t count) {
  return {.num_epochs = count, .per_device_batch_size = 8};
}

TEST(UnfreezeBackbone, AddsItsRangeAtItsEpochWithARateOfItsOwn) {
  Fixture f;
  auto trainer = f.trainer_with(ta::UnfreezeBackbone({.epoch = 3, .frozen_as_eval = true}));
  const auto before = f.net[0]->parameters()[0].clone();
  torch::Tensor after_two;
  f.look = [&](std::int64_t epoch) {
    EXPECT_EQ(f.net[2]->is_training(), epoch >= 3);  // the dropout of the frozen part
    if (epoch == 2) after_two = f.net[0]->parameters()[0].clone();
  };
  trainer.train(tiny_batch(8), epochs(4));
  EXPECT_THAT(f.rates, ElementsAre("0.100", "0.100", "0.100 0.010 0.010", "0.100 0.010 0.010"));
  EXPECT_TRUE(torch::equal(before, after_two));
  EXPECT_FALSE(torch::equal(before, f.net[0]->parameters()[0]));
  EXPECT_EQ(f.optimizer.param_groups()[1].params().size(), 2U);

  f.rates.clear();
  f.look = [](std::int64_t) {};  // a second run adds nothing again
  trainer.train(tiny_batch(8), epochs(1));
  EXPECT_THAT(f.rates, ElementsAre("0.100 0.010 0.010"));
}

TEST(UnfreezeBackbone, GoesGroupByGroupFromTheLastOnUnderASchedule) {
  Fixture f;
  auto trainer = f.trainer_with(ta::UnfreezeBackbone({.learning_rate = 0.08, .every_epochs = 2}));
  auto options = epochs(6);
  // Half the rate that each group began with.
  options.scheduler = [](torch::optim::Optimizer& optimizer, const ta::RunConfig&) {
    return std::make_unique<ta::CurveScheduler>(optimizer, "half",
                                                [](std::int64_t, double base) { return base / 2; });
  };
  trainer.train(tiny_batch(8), options);
  // The dropout goes with the layer before it.
  EXPECT_THAT(f.rates, ElementsAre("0.050", "0.050 0.040", "0.050 0.040", "0.050 0.040 0.040",
                                   "0.050 0.040 0.040", "0.050 0.040 0.040"));
  EXPECT_TRUE(f.optimizer.param_groups()[1].params()[0].is_same(f.net[1]->parameters()[0]));
  std::vector<double> given_back;
  for (const auto& group : f.optimizer.param_groups()) {
    given_back.push_back(group.options().get_lr());
  }
  EXPECT_THAT(given_back, ElementsAre(0.1, 0.08, 0.08));
}

TEST(UnfreezeBackbone, GoesOnWhereItsStateWas) {
  Fixture first;
  const ta::UnfreezeBackboneOptions options{.groups = {.from = 0, .to = 1}, .every_epochs = 1};
  auto whole = first.trainer_with(ta::UnfreezeBackbone(options));
  whole.train(tiny_batch(8), epochs(2));
  const auto state = whole.callbacks().find<ta::UnfreezeBackbone>()->state();

  Fixture second;
  ta::UnfreezeBackbone resumed(options);
  resumed.load_state(state);
  EXPECT_EQ(resumed.state().get<std::int64_t>("unfrozen"), 1);
  auto trainer = second.trainer_with(std::move(resumed));
  trainer.train(tiny_batch(8), epochs(3));
  EXPECT_THAT(second.rates, ElementsAre("0.100 0.010", "0.100 0.010", "0.100 0.010 0.010"));

  Fixture third;
  ta::UnfreezeBackbone other({.groups = {.from = 0, .to = 1}});
  other.load_state(ta::State().set("unfrozen", std::int64_t{2}));
  auto refusing = third.trainer_with(std::move(other));
  EXPECT_THAT(message_of<ta::StateError>([&] { refusing.train(tiny_batch(8), epochs(1)); }),
              HasSubstr("has unfrozen 2 parts, the options make 1"));
}

TEST(UnfreezeBackbone, LeavesParametersThatTheOptimizerHoldsInTheirGroup) {
  Fixture f;
  torch::optim::SGD all(f.net->parameters(), torch::optim::SGDOptions(0.1));
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), all,
                      ta::CallbackList(ta::UnfreezeBackbone({.epoch = 1})));
  trainer.train(tiny_batch(8), epochs(1));
  EXPECT_EQ(all.param_groups().size(), 1U);
  EXPECT_TRUE(f.net[0]->parameters()[0].requires_grad());
}

TEST(UnfreezeBackbone, RefusesBadOptionsBeforeTrainingStarts) {
  EXPECT_THAT(
      message_of<ta::ArgumentError>([] {
        ta::UnfreezeBackbone(
            {.epoch = 0, .learning_rate = -1.0, .divide_rate_by = 0, .every_epochs = 0});
      }),
      AllOf(HasSubstr("epoch must be >= 1, got 0"), HasSubstr("every_epochs must be >= 1, got 0"),
            HasSubstr("learning_rate must be > 0, got -1"), HasSubstr("divide_rate_by must be")));
  Fixture f;
  auto trainer = f.trainer_with(ta::UnfreezeBackbone({.groups = {.from = 0, .to = 7}}));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), epochs(3)); }),
      AllOf(HasSubstr("UnfreezeBackbone: "), HasSubstr("[0, 7] of layer groups goes beyond")));
  EXPECT_TRUE(f.rates.empty());
}

TEST(UnfreezeBackbone, RefusesARunThatEndsBeforeItsEpoch) {
  Fixture f;
  auto trainer = f.trainer_with(ta::UnfreezeBackbone({.epoch = 3}));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), epochs(2)); }),
              HasSubstr("UnfreezeBackbone: epoch is 3, the run has 2 epochs"));
  auto cut = epochs(9);
  cut.max_updates = 1;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), cut); }),
              HasSubstr("epoch is 3, the run has 1 epoch;"));
  EXPECT_TRUE(f.rates.empty());
  trainer.train(tiny_batch(8), epochs(3));
  EXPECT_EQ(f.optimizer.param_groups().size(), 3U);
}

}  // namespace
}  // namespace tests::unfreeze_backbone_test
