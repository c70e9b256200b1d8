// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/optimizer_state.h"
#include "checkpoint/state_text.h"
#include "checkpoint/tensor_file.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

/// A small model with an optimizer whose state goes into a checkpoint and comes back.
namespace torch_accelerated::optimizing {

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

inline ParameterNames names_of(const torch::nn::Module& module) {
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
inline State stored(const State& state) {
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
inline std::string difference(const State& one, const State& other) {
  if (one.values() != other.values()) return "values";
  if (one.tensors().size() != other.tensors().size()) return "number of tensors";
  for (const auto& [name, tensor] : one.tensors()) {
    if (!other.tensors().contains(name)) return "no " + name;
    const auto& its = other.tensors()[name];
    if (its.scalar_type() != tensor.scalar_type() || !torch::equal(its, tensor)) return name;
  }
  return {};
}

inline bool same_weights(const Optimizing& one, const Optimizing& other) {
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

inline Factory sgd(double rate = 0.1) { return maker<SGD>(SGDOptions(rate).momentum(0.9)); }
inline Factory adam() { return maker<Adam>(AdamOptions(0.01)); }
inline Factory lbfgs() { return maker<LBFGS>(LBFGSOptions(0.5).max_iter(3).history_size(4)); }

// What is said of a state that doesn't fit; the optimizer must be as it was then.
inline std::string refusal(Optimizing& run, const State& state) {
  const auto before = stored(run.state());
  try {
    run.load(state);
  } catch (const CheckpointError& error) {
    EXPECT_EQ(difference(run.state(), before), "");
    return error.what();
  }
  return "accepted";
}

inline State trained_state(const Factory& make, std::int64_t hidden = 5, bool two_groups = false) {
  Optimizing run(make, hidden, two_groups);
  run.train(2);
  return stored(run.state());
}

inline Optimizing trained(const Factory& make, bool two_groups = false) {
  Optimizing run(make, 5, two_groups);
  run.train(3);
  return run;
}

}  // namespace torch_accelerated::optimizing
