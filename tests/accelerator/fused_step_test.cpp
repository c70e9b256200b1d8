// SPDX-License-Identifier: Apache-2.0
// Fused kernels do what torch::optim does, from any state and whatever gradients there are.
#include "accelerator/fused_step.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::fused_step_test {
namespace {

using Tensors = std::vector<torch::Tensor>;
using MakeOptimizer =
    std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<torch::Tensor>)>;

Tensors make_parameters(torch::Dtype dtype) {
  const ta::SeedScope scope(5);
  Tensors parameters;
  for (const auto& sizes : std::vector<std::vector<std::int64_t>>{{7, 5}, {19}, {2, 3, 4}, {}}) {
    parameters.push_back(torch::randn(sizes, dtype).requires_grad_());
  }
  return parameters;
}

/// Two optimizers of equal parameters: one steps by itself, one by fused kernels.
struct Pair {
  Pair(const MakeOptimizer& make, torch::Dtype dtype)
      : plain_parameters(make_parameters(dtype)),
        fused_parameters(make_parameters(dtype)),
        plain(make(plain_parameters)),
        fused(make(fused_parameters)),
        step(ta::make_fused_step(*fused)) {}

  void give_gradients(std::uint64_t seed) {
    const ta::SeedScope scope(seed);
    for (std::size_t i = 0; i < plain_parameters.size(); ++i) {
      const auto gradient = torch::randn_like(plain_parameters[i]);
      plain_parameters[i].mutable_grad() = gradient;
      fused_parameters[i].mutable_grad() = gradient.clone();
    }
  }

  void leave_out(std::size_t index) {
    plain_parameters[index].mutable_grad().reset();
    fused_parameters[index].mutable_grad().reset();
  }

  double difference() const {
    double largest = 0;
    for (std::size_t i = 0; i < plain_parameters.size(); ++i) {
      const auto apart = (plain_parameters[i] - fused_parameters[i]).abs().max().item<double>();
      largest = std::max(largest, apart / plain_parameters[i].abs().max().item<double>());
    }
    return largest;
  }

  Tensors plain_parameters;
  Tensors fused_parameters;
  std::unique_ptr<torch::optim::Optimizer> plain;
  std::unique_ptr<torch::optim::Optimizer> fused;
  std::unique_ptr<ta::FusedStep> step;
};

template <class Optimizer, class Options>
MakeOptimizer maker(Options options) {
  return [options](Tensors parameters) {
    return std::make_unique<Optimizer>(std::move(parameters), options);
  };
}

struct Case {
  std::string name;
  MakeOptimizer make;
};

void PrintTo(const Case& of, std::ostream* stream) { *stream << of.name; }

std::vector<Case> cases() {
  using namespace torch::optim;
  const auto first_and_rest = [](Tensors parameters) {
    std::vector<OptimizerParamGroup> groups;
    groups.emplace_back(Tensors{parameters[0]},
                        std::make_unique<AdamWOptions>(AdamWOptions(0.05).weight_decay(0.1)));
    groups.emplace_back(Tensors(parameters.begin() + 1, parameters.end()));
    return std::make_unique<AdamW>(std::move(groups), AdamWOptions(0.01).weight_decay(0));
  };
  return {
      {"Sgd", maker<SGD>(SGDOptions(0.1))},
      {"SgdWithDecay", maker<SGD>(SGDOptions(0.1).weight_decay(0.01))},
      {"Momentum", maker<SGD>(SGDOptions(0.1).momentum(0.9))},
      {"Dampening", maker<SGD>(SGDOptions(0.1).momentum(0.9).dampening(0.5).weight_decay(0.01))},
      {"Nesterov", maker<SGD>(SGDOptions(0.1).momentum(0.9).nesterov(true).weight_decay(0.01))},
      {"Adam", maker<Adam>(AdamOptions(0.01))},
      {"AdamWithDecay", maker<Adam>(AdamOptions(0.01).weight_decay(0.1).betas({0.8, 0.99}))},
      {"AdamAmsgrad", maker<Adam>(AdamOptions(0.01).amsgrad(true).eps(1e-6))},
      {"AdamW", maker<AdamW>(AdamWOptions(0.01))},
      {"AdamWAmsgrad", maker<AdamW>(AdamWOptions(0.01).amsgrad(true).weight_decay(0.1))},
      {"Groups", first_and_rest},
  };
}

class FusedStep : public testing::TestWithParam<Case> {};

TEST_P(FusedStep, EqualsTheOptimizersOwnToRounding) {
  for (const auto& [dtype, bound] : {std::pair(torch::kFloat32, 1e-6), {torch::kFloat64, 1e-14}}) {
    Pair pair(GetParam().make, dtype);
    for (std::uint64_t update = 0; update < 100; ++update) {
      pair.give_gradients(update);
      if (update < 3) pair.leave_out(1);       // begins later than the others
      if (update % 7 == 5) pair.leave_out(2);  // falls behind
      pair.plain->step();
      ASSERT_TRUE(pair.step->take({}));
    }
    EXPECT_LT(pair.difference(), bound) << c10::toString(dtype);
  }
}

TEST_P(FusedStep, GoesOnFromTheOptimizersOwnAndTheOtherWayRound) {
  Pair pair(GetParam().make, torch::kFloat64);
  for (std::uint64_t update = 0; update < 30; ++update) {
    pair.give_gradients(update);
    pair.plain->step();
    if (update / 10 == 1) {
      ASSERT_TRUE(pair.step->take({}));
    } else {
      pair.fused->step();
    }
  }
  EXPECT_LT(pair.difference(), 1e-14);
}

TEST_P(FusedStep, LeavesWhatDoesntFitToTheOptimizer) {
  Pair pair(GetParam().make, torch::kFloat64);
  pair.give_gradients(1);
  ASSERT_TRUE(pair.step->take({}));
  const auto before = pair.fused_parameters[0].detach().clone();
  pair.give_gradients(2);
  // Of the same numbers, and another order in memory.
  auto& gradient = pair.fused_parameters[2].mutable_grad();
  gradient = gradient.permute({2, 1, 0}).contiguous().permute({2, 1, 0});
  EXPECT_FALSE(pair.step->take({}));
  EXPECT_TRUE(torch::equal(pair.fused_parameters[0], before)) << "a part of it was stepped";
}

TEST_P(FusedStep, TakesParametersThatLieInAnotherOrder) {
  Pair pair(GetParam().make, torch::kFloat64);
  for (std::uint64_t update = 0; update < 10; ++update) {
    pair.give_gradients(update);
    if (update == 0) {
      auto& parameter = pair.fused_parameters[2];
      parameter.set_data(parameter.detach().permute({2, 1, 0}).contiguous().permute({2, 1, 0}));
    }
    auto& gradient = pair.fused_parameters[2].mutable_grad();
    gradient = torch::empty_like(pair.fused_parameters[2]).copy_(gradient);
    pair.plain->step();
    ASSERT_TRUE(pair.step->take({}));
  }
  EXPECT_LT(pair.difference(), 1e-14);
}

INSTANTIATE_TEST_SUITE_P(Of, FusedStep, testing::ValuesIn(cases()),
                         [](const auto& of) { return of.param.name; });

TEST(FusedSteps, AreThoseOfExactlyThreeTypes) {
  class Derived : public torch::optim::SGD {
   public:
    using SGD::SGD;
  };
  const auto parameters = make_parameters(torch::kFloat32);
  Derived derived(parameters, 0.1);
  torch::optim::RMSprop other(parameters, 0.1);
  EXPECT_EQ(ta::make_fused_step(derived), nullptr) << "its step() may be another";
  EXPECT_EQ(ta::make_fused_step(other), nullptr);
}

TEST(FusedSteps, AreTurnedOffByAnOption) {
  for (const bool fused : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .fused_optimizers = fused});
    auto net = tiny_net();
    auto optimizer = sgd(net);
    EXPECT_EQ(accelerator.step_description(optimizer), "plain") << "it isn't prepared yet";
    accelerator.prepare(optimizer);
    EXPECT_EQ(accelerator.step_description(optimizer), fused ? "fused" : "plain");
    accelerator.release(optimizer);
    EXPECT_EQ(accelerator.step_description(optimizer), "plain");
  }
}

TEST(FusedSteps, TakeSparseGradientsAsTheOptimizerDoes) {
  const auto trained = [](bool fused) {
    const ta::SeedScope scope(1);
    torch::nn::Embedding net(torch::nn::EmbeddingOptions(6, 3).sparse(true));
    torch::optim::SGD optimizer(net->parameters(), 0.1);
    ta::Accelerator accelerator({.device = "cpu", .fused_optimizers = fused});
    accelerator.prepare(optimizer);
    accelerator.backward(net->forward(torch::tensor({1, 4})).square().sum(), optimizer);
    EXPECT_TRUE(accelerator.step(optimizer));
    return net->weight.detach();
  };
  EXPECT_TRUE(torch::equal(trained(true), trained(false)));
}

// Tensors stand from step to step, and must neither outlive their use nor be stepped by in it.
TEST(FusedSteps, LetGoOfWhatTheyNoLongerStep) {
  auto stays = torch::ones({3}, torch::requires_grad());
  auto leaves = torch::ones({2}, torch::requires_grad());
  torch::optim::SGD optimizer({stays, leaves}, torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto step = ta::make_fused_step(optimizer);
  const auto take = [&] {
    for (auto& parameter : optimizer.param_groups()[0].params()) {
      parameter.mutable_grad() = torch::ones_like(parameter);
    }
    return step->take({});
  };
  ASSERT_TRUE(take());
  const c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> left(
      leaves.getIntrusivePtr());
  optimizer.param_groups()[0].params().pop_back();
  leaves.reset();
  ASSERT_TRUE(take());
  EXPECT_TRUE(left.expired());
  EXPECT_NEAR(stays[0].item<double>(), 1 - 0.1 - 0.19, 1e-6);
}

TEST(FusedSteps, GoByAMomentumThatHasTakenAnothersPlace) {
  Pair pair(maker<torch::optim::SGD>(torch::optim::SGDOptions(0.1).momentum(0.9)), torch::kFloat64);
  for (std::uint64_t update = 0; update < 6; ++update) {
    pair.give_gradients(update);
    pair.plain->step();
    ASSERT_TRUE(pair.step->take({}));
    for (auto* optimizer : {pair.plain.get(), pair.fused.get()}) {
      for (auto& [key, kept] : optimizer->state()) {
        auto& momentum = static_cast<torch::optim::SGDParamState&>(*kept);
        if (update == 3) momentum.momentum_buffer(momentum.momentum_buffer() * 2);
      }
    }
  }
  EXPECT_LT(pair.difference(), 1e-14);
}

TEST(FusedSteps, EndWithTheSameBitsOnAnyNumberOfThreads) {
  const auto trained = [](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    auto parameter = torch::linspace(-1, 1, (1 << 20) + 37).requires_grad_();
    torch::optim::AdamW optimizer({parameter}, torch::optim::AdamWOptions(0.01));
    const auto step = ta::make_fused_step(optimizer);
    for (int update = 0; update < 3; ++update) {
      parameter.mutable_grad() = torch::sin(parameter.detach() * (update + 1));
      EXPECT_TRUE(step->take({}));
    }
    at::set_num_threads(before);
    return parameter.detach();
  };
  EXPECT_TRUE(torch::equal(trained(1), trained(2)));
}

}  // namespace
}  // namespace tests::fused_step_test
