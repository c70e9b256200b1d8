// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/optimizer_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "checkpoint/state_text.h"
#include "checkpoint/tensor_file.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/stateful.h"

namespace torch_accelerated::optimizer_state_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using torch::optim::Optimizer;
using torch::optim::OptimizerParamGroup;
using Groups = std::vector<OptimizerParamGroup>;
using OptimizerPtr = std::unique_ptr<Optimizer>;
using Factory = std::function<OptimizerPtr(Groups)>;

/// Two layers, and a parameter that no gradient ever reaches.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(std::int64_t hidden = 5)
      : first(register_module("first", torch::nn::Linear(4, hidden))),
        second(register_module("second", torch::nn::Linear(hidden, 2))),
        unused(register_parameter("unused", torch::ones({3}))) {}
  torch::Tensor forward(const torch::Tensor& input) { return second(torch::tanh(first(input))); }

  torch::nn::Linear first;
  torch::nn::Linear second;
  torch::Tensor unused;
};
TORCH_MODULE(Net);

ParameterNames names_of(const torch::nn::Module& module) {
  ParameterNames names;
  for (const auto& parameter : module.named_parameters()) {
    names.emplace(parameter.value().unsafeGetTensorImpl(), parameter.key());
  }
  return names;
}

struct Optimizing {
  explicit Optimizing(const Factory& make, std::int64_t hidden = 5, bool two_groups = false)
      : net(seeded(hidden)), optimizer(make(groups(two_groups))) {}

  // The input is a function of the step, so that two runs see the same.
  void train(int steps) {
    for (int i = 0; i < steps; ++i, ++step) {
      auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(step));
      const auto options = net->first->weight.options().requires_grad(false);
      const auto input = torch::randn({6, 4}, generator, options);
      const auto target = torch::randn({6, 2}, generator, options);
      optimizer->step([&] {
        optimizer->zero_grad();
        auto loss = torch::mse_loss(net(input), target);
        loss.backward();
        return loss;
      });
    }
  }

  State state() { return optimizer_state(*optimizer, names_of(*net)); }
  void load(const State& state) {
    load_optimizer_state(*optimizer, names_of(*net), state, "optimizer 'main'");
  }
  // Goes on where `other` is, but for the optimizer.
  void copy_model(const Optimizing& other) {
    const torch::NoGradGuard no_grad;
    const auto from = other.net->parameters();
    const auto to = net->parameters();
    for (std::size_t i = 0; i < from.size(); ++i) to[i].copy_(from[i]);
    step = other.step;
  }

  Net net;
  OptimizerPtr optimizer;
  int step = 0;

 private:
  static Net seeded(std::int64_t hidden) {
    torch::manual_seed(1);
    return Net(hidden);
  }
  Groups groups(bool two) {
    if (!two) return {OptimizerParamGroup(net->parameters())};
    return {OptimizerParamGroup(net->first->parameters()),
            OptimizerParamGroup({net->second->weight, net->second->bias, net->unused})};
  }
};

// As a checkpoint keeps it: values as text, tensors in a file.
State stored(const State& state) {
  const testing::TempDir folder;
  const auto path = (folder.path() / "optimizer.safetensors").string();
  write_tensor_file(system_io(), path, state.tensors());
  State read;
  for (auto& [name, value] : parse_state_text(state_text(state.values()), "state.json")) {
    read.set(name, value);
  }
  for (const auto& [name, tensor] : read_tensors(*open_tensors(path)))
    read.set_tensor(name, tensor);
  return read;
}

// The first difference; empty where there is none.
std::string difference(const State& one, const State& other) {
  if (one.values() != other.values()) return "values";
  if (one.tensors().size() != other.tensors().size()) return "number of tensors";
  for (const auto& [name, tensor] : one.tensors()) {
    if (!other.tensors().contains(name)) return "no " + name;
    const auto& its = other.tensors()[name];
    if (its.scalar_type() != tensor.scalar_type() || !torch::equal(its, tensor)) return name;
  }
  return {};
}

bool same_weights(const Optimizing& one, const Optimizing& other) {
  const auto ours = one.net->parameters();
  const auto theirs = other.net->parameters();
  return std::equal(ours.begin(), ours.end(), theirs.begin(), theirs.end(),
                    [](const auto& a, const auto& b) { return torch::equal(a, b); });
}

template <class Optim, class Options>
Factory maker(Options options) {
  return [options](Groups groups) { return std::make_unique<Optim>(std::move(groups), options); };
}

using namespace torch::optim;

Factory sgd(double rate = 0.1) { return maker<SGD>(SGDOptions(rate).momentum(0.9)); }
Factory adam() { return maker<Adam>(AdamOptions(0.01)); }
Factory lbfgs() { return maker<LBFGS>(LBFGSOptions(0.5).max_iter(3).history_size(4)); }

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

// What is said of a state that doesn't fit; the optimizer must be as it was then.
std::string refusal(Optimizing& run, const State& state) {
  const auto before = stored(run.state());
  try {
    run.load(state);
  } catch (const CheckpointError& error) {
    EXPECT_EQ(difference(run.state(), before), "");
    return error.what();
  }
  return "accepted";
}

State trained_state(const Factory& make, std::int64_t hidden = 5, bool two_groups = false) {
  Optimizing run(make, hidden, two_groups);
  run.train(2);
  return stored(run.state());
}

Optimizing trained(const Factory& make, bool two_groups = false) {
  Optimizing run(make, 5, two_groups);
  run.train(3);
  return run;
}

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
}  // namespace torch_accelerated::optimizer_state_test
