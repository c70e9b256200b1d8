// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/reduce_on_plateau.h"

#include <gmock/gmock.h>

#include <limits>
#include <set>

#include "schedulers/reference.h"
#include "support/tiny.h"

namespace tests::reduce_on_plateau_test {
namespace {

using testing::HasSubstr;

ta::RunConfig run_with_evaluation() {
  ta::RunConfig config;
  config.eval_rows = 10;
  return config;
}

void end_epoch(ta::Scheduler& scheduler, double value) {
  scheduler.end_epoch([value](std::string_view name) {
    return name == "eval_loss" ? std::optional(value) : std::nullopt;
  });
}

double rate_of(const torch::optim::Optimizer& optimizer) {
  return optimizer.param_groups()[0].options().get_lr();
}

// Resumed in the middle, at each epoch in turn, over an optimizer that began otherwise.
TEST(ReduceOnPlateau, IsPyTorchsAlsoWhenResumed) {
  auto net = tiny_net();
  const auto metric = reference_curve("plateau_metric");
  for (const std::string mode : {"min", "max"}) {
    for (const std::string threshold : {"rel", "abs"}) {
      const auto expected =
          reference_curve(std::string("torch_plateau_").append(mode).append("_").append(threshold));
      const auto factory = ta::reduce_on_plateau(
          {.direction = mode == "min" ? ta::Better::kLower : ta::Better::kHigher,
           .factor = 0.4,
           .patience = 2,
           .threshold = 1e-3,
           .threshold_mode = threshold == "rel" ? ta::PlateauThreshold::kRelative
                                                : ta::PlateauThreshold::kAbsolute,
           .cooldown_epochs = 1,
           .min_rate = 0.002});
      std::vector<std::unique_ptr<torch::optim::SGD>> optimizers;
      optimizers.push_back(std::make_unique<torch::optim::SGD>(sgd(net, 0.3)));
      auto scheduler = factory(*optimizers.back(), run_with_evaluation());
      EXPECT_LT(expected.back(), 0.3 * 0.2);  // several reductions are compared
      for (std::size_t epoch = 0; epoch < metric.size(); ++epoch) {
        scheduler->step();
        end_epoch(*scheduler, metric[epoch]);
        EXPECT_NEAR(rate_of(*optimizers.back()), expected[epoch], 1e-12)
            << mode << ' ' << threshold << " at epoch " << epoch;
        const auto state = scheduler->state();
        optimizers.push_back(std::make_unique<torch::optim::SGD>(sgd(net, 0.9)));
        scheduler = factory(*optimizers.back(), run_with_evaluation());
        scheduler->load_state(state);
      }
    }
  }
}

// A part of a negative best value, taken as PyTorch does, would let worse values pass as better.
TEST(ReduceOnPlateau, MeasuresImprovementOfNegativeValuesByTheirSize) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  ta::ReduceOnPlateau scheduler(optimizer, {.patience = 0, .threshold = 0.1});
  end_epoch(scheduler, -1.0);
  EXPECT_EQ(rate_of(optimizer), 0.1);
  end_epoch(scheduler, -0.95);  // worse
  EXPECT_NEAR(rate_of(optimizer), 0.01, 1e-15);
  end_epoch(scheduler, -1.2);  // better by a fifth
  EXPECT_NEAR(rate_of(optimizer), 0.01, 1e-15);
}

TEST(ReduceOnPlateau, TakesAValueThatIsNotFiniteForNoImprovement) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  ta::ReduceOnPlateau scheduler(optimizer, {.patience = 0});
  end_epoch(scheduler, std::numeric_limits<double>::quiet_NaN());
  EXPECT_NEAR(rate_of(optimizer), 0.01, 1e-15);
  end_epoch(scheduler, -std::numeric_limits<double>::infinity());
  EXPECT_NEAR(rate_of(optimizer), 0.001, 1e-15);
  end_epoch(scheduler, 5);
  EXPECT_NEAR(rate_of(optimizer), 0.001, 1e-15);
}

TEST(ReduceOnPlateau, WatchesAnIntermediateEvaluation) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::StepBasedEvaluation({.every_updates = 3})));
  // Two updates an epoch: none is evaluated in the first, whose end has nothing to look at.
  trainer.train(tiny_batch(8),
                {.num_epochs = 3,
                 .eval_dataset = tiny_batch(4),
                 .per_device_batch_size = 4,
                 .scheduler = ta::reduce_on_plateau({.metric = "intermediate_eval_loss"})});
  EXPECT_EQ(trainer.history().values("intermediate_eval_loss").size(), 2U);
}

TEST(ReduceOnPlateau, HasOtherSettingsForOtherOptionsAndRates) {
  const std::vector<ta::PlateauOptions> all{{},
                                            {.metric = "train_loss"},
                                            {.direction = ta::Better::kHigher},
                                            {.factor = 0.1000001},
                                            {.patience = 11},
                                            {.threshold = 0},
                                            {.threshold_mode = ta::PlateauThreshold::kAbsolute},
                                            {.cooldown_epochs = 1},
                                            {.min_rate = 1e-9},
                                            {.min_change = 1e-9}};
  const auto settings_of = [net = tiny_net()](const ta::PlateauOptions& options, double rate) {
    auto optimizer = sgd(net, rate);
    return ta::ReduceOnPlateau(optimizer, options).settings();
  };
  std::set<std::string> seen{settings_of({}, 0.2)};
  for (const auto& options : all) {
    EXPECT_EQ(settings_of(options, 0.1), settings_of(options, 0.1));
    seen.insert(settings_of(options, 0.1));
  }
  EXPECT_EQ(seen.size(), all.size() + 1);
}

TEST(ReduceOnPlateau, RefusesWhatItCannotWatch) {
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.1);
  EXPECT_THAT(message_of<ta::ArgumentError>(
                  [] { ta::reduce_on_plateau({.metric = "", .factor = 1, .patience = -1}); }),
              testing::AllOf(HasSubstr("metric is empty"), HasSubstr("factor must be in (0, 1)"),
                             HasSubstr("patience must be >= 0, got -1")));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                trainer.train(tiny_batch(8),
                              {.num_epochs = 1, .scheduler = ta::reduce_on_plateau()});
              }),
              testing::AllOf(HasSubstr("reduce_on_plateau: there will be no metric 'eval_loss'"),
                             HasSubstr("need an eval_dataset")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                ta::reduce_on_plateau({.min_rate = 0.5})(optimizer, run_with_evaluation());
              }),
              HasSubstr("min_rate 0.5 is above the rate 0.1 of param group 0"));
  const auto other =
      ta::reduce_on_plateau({.metric = "eval_los"})(optimizer, run_with_evaluation());
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { end_epoch(*other, 1); }),
              HasSubstr("the history has no 'eval_los'"));
  EXPECT_THAT(message_of<ta::StateError>([&] { other->load_state(ta::State()); }),
              HasSubstr("no value 'best'"));
}

}  // namespace
}  // namespace tests::reduce_on_plateau_test
