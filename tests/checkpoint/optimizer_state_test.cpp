// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/optimizer_state.h"

#include <gmock/gmock.h>

#include "checkpoint/optimizing.h"

namespace torch_accelerated::optimizer_state_test {
namespace {

using namespace optimizing;

struct Kind {
  std::string name;
  Factory make;
  std::string type;
  bool two_groups = true;  // LBFGS knows one only
};

std::vector<Kind> kinds() {
  return {
      {"SgdPlain", maker<SGD>(SGDOptions(0.1).weight_decay(0.01)), "SGD"},
      {"SgdMomentum", maker<SGD>(SGDOptions(0.1).momentum(0.9).dampening(0.1)), "SGD"},
      {"SgdNesterov", maker<SGD>(SGDOptions(0.1).momentum(0.9).nesterov(true)), "SGD"},
      {"Adam", maker<Adam>(AdamOptions(0.01).betas({0.8, 0.99})), "Adam"},
      {"AdamAmsgrad", maker<Adam>(AdamOptions(0.01).amsgrad(true).weight_decay(0.1)), "Adam"},
      {"AdamW", maker<AdamW>(AdamWOptions(0.01).eps(1e-6)), "AdamW"},
      {"AdamWAmsgrad", maker<AdamW>(AdamWOptions(0.01).amsgrad(true)), "AdamW"},
      {"RmsProp", maker<RMSprop>(RMSpropOptions(0.01)), "RMSprop"},
      {"RmsPropCentered", maker<RMSprop>(RMSpropOptions(0.01).centered(true).momentum(0.5)),
       "RMSprop"},
      {"Adagrad", maker<Adagrad>(AdagradOptions(0.1).lr_decay(0.01).initial_accumulator_value(0.1)),
       "Adagrad"},
      {"Lbfgs", lbfgs(), "LBFGS", false},
      // With room for more than there have been iterations, and a line search of its own.
      {"LbfgsStrongWolfe",
       maker<LBFGS>(LBFGSOptions(0.5).max_iter(2).line_search_fn("strong_wolfe")), "LBFGS", false},
  };
}

class EachOptimizerState : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(All, EachOptimizerState, ::testing::ValuesIn(kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(EachOptimizerState, GoesOnToTheBitInAFreshOptimizer) {
  const auto& kind = GetParam();
  Optimizing run(kind.make, 5, kind.two_groups);
  run.train(4);
  for (auto& group : run.optimizer->param_groups()) {
    group.options().set_lr(group.options().get_lr() * 0.7);
  }
  run.train(3);
  Optimizing resumed(kind.make, 5, kind.two_groups);
  resumed.copy_model(run);
  Optimizing without(kind.make, 5, kind.two_groups);
  without.copy_model(run);
  resumed.load(stored(run.state()));
  EXPECT_EQ(difference(resumed.state(), run.state()), "");

  for (Optimizing* each : {&run, &resumed, &without}) each->train(5);
  EXPECT_TRUE(same_weights(run, resumed));
  EXPECT_EQ(difference(resumed.state(), run.state()), "");
  EXPECT_FALSE(same_weights(run, without));  // what is compared depends on the state
}

TEST_P(EachOptimizerState, ReplacesWhatAnOptimizerHadBefore) {
  const auto& kind = GetParam();
  Optimizing run(kind.make);
  const auto fresh = stored(run.state());
  run.train(2);
  const auto later = stored(run.state());
  run.load(fresh);
  EXPECT_EQ(difference(run.state(), fresh), "");
  run.load(later);
  EXPECT_EQ(difference(run.state(), later), "");
}

TEST_P(EachOptimizerState, KnowsItsType) {
  Optimizing run(GetParam().make);
  EXPECT_EQ(type_name(*run.optimizer), GetParam().type);
  EXPECT_EQ(run.state().get<std::string>("type"), GetParam().type);
}

TEST_P(EachOptimizerState, HasNothingOfAParameterThatTheOptimizerHasNothingOf) {
  Optimizing run(GetParam().make);
  run.train(3);
  Optimizing resumed(GetParam().make);
  resumed.load(stored(run.state()));
  EXPECT_EQ(resumed.optimizer->state().size(), run.optimizer->state().size());
  EXPECT_EQ(resumed.optimizer->state().count(resumed.net->unused.unsafeGetTensorImpl()),
            run.optimizer->state().count(run.net->unused.unsafeGetTensorImpl()));
}

TEST(OptimizerState, KeepsEachGroupsOwnOptions) {
  for (const auto& kind : kinds()) {
    if (!kind.two_groups) continue;
    SCOPED_TRACE(kind.name);
    Optimizing run(kind.make, 5, true);
    run.optimizer->param_groups()[1].options().set_lr(0.003);
    run.train(2);
    Optimizing resumed(kind.make, 5, true);
    resumed.copy_model(run);
    resumed.load(stored(run.state()));
    const auto& groups = resumed.optimizer->param_groups();
    EXPECT_EQ(groups[0].options().get_lr(), run.optimizer->param_groups()[0].options().get_lr());
    EXPECT_EQ(groups[1].options().get_lr(), 0.003);
    run.train(5);
    resumed.train(5);
    EXPECT_TRUE(same_weights(run, resumed));
  }
}

TEST(OptimizerState, WorksForParametersThatAreCalledLikeItsOwnEntries) {
  struct Odd : torch::nn::Module {
    Odd() {
      register_parameter("type", torch::ones({2}));
      register_parameter("groups", torch::ones({2}));
    }
  } odd;
  Adam optimizer(odd.parameters(), AdamOptions(0.1));
  const auto names = names_of(odd);
  const auto state = stored(optimizer_state(optimizer, names));
  EXPECT_NO_THROW(load_optimizer_state(optimizer, names, state, "optimizer"));
  EXPECT_TRUE(optimizer.state().empty());
}

}  // namespace
}  // namespace torch_accelerated::optimizer_state_test
