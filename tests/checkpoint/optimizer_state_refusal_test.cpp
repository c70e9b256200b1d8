// SPDX-License-Identifier: Apache-2.0
// An optimizer's state that doesn't fit, or that can't be had, is refused; nothing has changed
// then.
#include <gmock/gmock.h>

#include "checkpoint/optimizing.h"
#include "torch_accelerated/core/stateful.h"

namespace torch_accelerated::optimizer_state_refusal_test {
namespace {

using namespace optimizing;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(OptimizerState, OfAnotherTypeIsRefused) {
  const std::vector<std::pair<std::string, Factory>> all{
      {"SGD", sgd()},
      {"Adam", adam()},
      {"AdamW", maker<AdamW>(AdamWOptions(0.01))},
      {"RMSprop", maker<RMSprop>(RMSpropOptions(0.01))},
      {"Adagrad", maker<Adagrad>(AdagradOptions(0.01))},
      {"LBFGS", lbfgs()}};
  for (const auto& [name, make] : all) {
    auto run = trained(make);
    for (const auto& [other_name, other] : all) {
      if (name == other_name) continue;
      EXPECT_THAT(
          refusal(run, trained_state(other)),
          HasSubstr("optimizer 'main' is a " + name + ", a " + other_name + " in the checkpoint"));
    }
  }
}

TEST(OptimizerState, OfAnotherNumberOfGroupsIsRefused) {
  auto run = trained(adam());
  EXPECT_THAT(refusal(run, trained_state(adam(), 5, true)),
              HasSubstr("optimizer 'main' has 1 param groups, 2 in the checkpoint"));
}

TEST(OptimizerState, OfAnotherOrderOfParametersIsRefusedByName) {
  const auto reversed = [](Groups groups) -> OptimizerPtr {
    std::reverse(groups[0].params().begin(), groups[0].params().end());
    return std::make_unique<Adam>(std::move(groups), AdamOptions(0.01));
  };
  auto run = trained(adam());
  EXPECT_THAT(refusal(run, trained_state(reversed)),
              HasSubstr("param group 0 has the parameter 'unused' where the checkpoint has "
                        "'second.bias'"));
  const auto fewer = [](Groups groups) -> OptimizerPtr {
    groups[0].params().pop_back();
    return std::make_unique<Adam>(std::move(groups), AdamOptions(0.01));
  };
  EXPECT_THAT(refusal(run, trained_state(fewer)),
              HasSubstr("has the parameter 'second.bias' where the checkpoint has none"));
}

TEST(OptimizerState, OfAnotherShapeIsRefusedByName) {
  for (const auto& make : {sgd(), adam(), maker<RMSprop>(RMSpropOptions(0.01)),
                           maker<Adagrad>(AdagradOptions(0.01))}) {
    auto run = trained(make);
    EXPECT_THAT(
        refusal(run, trained_state(make, 6)),
        AllOf(HasSubstr("optimizer 'main': 'first.weight/"),
              HasSubstr("of shape [6, 4] in the checkpoint"), HasSubstr("of shape [5, 4] here")));
  }
  // LBFGS keeps tensors of all parameters: 4 * 5 + 5 + 5 * 2 + 2 + 3 values.
  auto run = trained(lbfgs());
  EXPECT_THAT(refusal(run, trained_state(lbfgs(), 6)),
              AllOf(HasSubstr("'unused/d'"), HasSubstr("of shape [47] in the checkpoint"),
                    HasSubstr("of shape [40] here")));
}

TEST(OptimizerState, OfAnotherDtypeIsRefusedByName) {
  for (const auto& make : {sgd(), adam(), lbfgs()}) {
    const auto state = trained_state(make);
    Optimizing run(make);
    for (auto& parameter : run.net->parameters()) parameter.set_data(parameter.to(torch::kFloat64));
    run.train(2);
    EXPECT_THAT(refusal(run, state), AllOf(HasSubstr("is float of shape"), HasSubstr("double of")));
  }
}

TEST(OptimizerState, ThatDiffersInItsLastParameterChangesNothing) {
  auto run = trained(adam());
  auto state = trained_state(adam());
  state.set_tensor("second.bias/exp_avg", torch::ones({7}));
  EXPECT_THAT(refusal(run, state), HasSubstr("'second.bias/exp_avg' is float of shape [7]"));
  state = trained_state(adam());
  state.set_tensor("second.bias/step", torch::tensor(2.0));
  EXPECT_THAT(refusal(run, state), HasSubstr("'second.bias/step' is no int64 number"));
}

TEST(OptimizerState, WithEntriesThatLackOrAreOfAnotherTypeIsRefused) {
  auto run = trained(adam());
  EXPECT_THAT(refusal(run, {}), HasSubstr("optimizer 'main': the state has no value 'type'"));
  for (const char* name : {"groups", "group/0/parameters", "group/0/lr", "group/0/betas"}) {
    auto state = trained_state(adam());
    state.set(name, true);
    EXPECT_THAT(refusal(run, state), HasSubstr("'" + std::string(name) + "' is of another type"));
  }
  auto state = trained_state(adam());
  state.set("group/0/betas", std::vector<double>{0.9});
  EXPECT_THAT(refusal(run, state), HasSubstr("'group/0/betas' has 1 numbers instead of 2"));
  auto lists = trained(lbfgs());
  for (const std::int64_t size : {std::int64_t{-1}, std::int64_t{1} << 62}) {
    auto hostile = trained_state(lbfgs());
    hostile.set("unused/ro.size", size);
    EXPECT_THAT(refusal(lists, hostile), HasSubstr("'unused/ro' is a list of"));
  }
}

TEST(OptimizerState, RefusesAParameterWithoutAName) {
  Optimizing run(adam());
  auto names = names_of(*run.net);
  names.erase(run.net->second->bias.unsafeGetTensorImpl());
  try {
    optimizer_state(*run.optimizer, names);
    ADD_FAILURE() << "accepted";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("of shape [2]"), HasSubstr("register_module()")));
  }
}

/// An optimizer of a program's own, that keeps one number.
class Sign : public Optimizer, public Stateful {
 public:
  explicit Sign(Groups groups) : Optimizer(std::move(groups), std::make_unique<SGDOptions>(0.1)) {}
  torch::Tensor step(LossClosure) override {
    ++steps;
    return {};
  }
  State state() const override {
    return State().set("steps", steps).set_tensor("tensor", torch::full({2}, 1.5));
  }
  void load_state(const State& state) override {
    last = state.tensor("tensor")[0].item<double>();
    steps = state.get<std::int64_t>("steps");
  }

  std::int64_t steps = 0;
  double last = 0;
};

/// One that keeps nothing that could be asked for.
class Forgetful : public Optimizer {
 public:
  explicit Forgetful(Groups groups)
      : Optimizer(std::move(groups), std::make_unique<SGDOptions>(0.1)) {}
  torch::Tensor step(LossClosure) override { return {}; }
};

TEST(OptimizerState, AsksAStatefulOptimizer) {
  const Factory make = [](Groups groups) { return std::make_unique<Sign>(std::move(groups)); };
  Optimizing run(make);
  dynamic_cast<Sign&>(*run.optimizer).steps = 12;
  const auto state = stored(run.state());
  EXPECT_EQ(state.get<std::string>("type"), "Sign");
  Optimizing resumed(make);
  resumed.load(state);
  EXPECT_EQ(dynamic_cast<Sign&>(*resumed.optimizer).steps, 12);
  EXPECT_EQ(dynamic_cast<Sign&>(*resumed.optimizer).last, 1.5);

  auto other = trained(sgd());
  EXPECT_THAT(refusal(other, state), HasSubstr("is a SGD, a Sign in the checkpoint"));
  EXPECT_THROW(resumed.load(trained_state(sgd())), CheckpointError);
  State without;
  without.set("type", std::string("Sign"));
  EXPECT_THROW(resumed.load(without), CheckpointError);
}

TEST(OptimizerState, OfAnotherOptimizerIsRefusedByItsType) {
  Optimizing run([](Groups groups) { return std::make_unique<Forgetful>(std::move(groups)); });
  try {
    run.state();
    ADD_FAILURE() << "accepted";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("a Forgetful,"), HasSubstr("Stateful")));
  }
}

}  // namespace
}  // namespace torch_accelerated::optimizer_state_refusal_test
