// SPDX-License-Identifier: Apache-2.0
// A function that is run again in the backward gives the gradients that it would have given.
#include "torch_accelerated/accelerator/activation_checkpoint.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::activation_checkpoint_test {
namespace {

using testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;

torch::nn::Sequential block(double dropout) {
  const ta::SeedScope scope(3);
  return torch::nn::Sequential(torch::nn::Linear(4, 6), torch::nn::Tanh(),
                               torch::nn::Dropout(dropout), torch::nn::Linear(6, 4));
}

struct Result {
  Tensors outputs;
  Tensors gradients;  // of the input, then of the parameters
};

// The block twice, as it is or checkpointed, from the same random numbers.
Result run(bool checkpointed, double dropout, bool input_needs_gradient = true) {
  auto net = block(dropout);
  const ta::SeedScope scope(11);
  const auto input = torch::randn({5, 4}).requires_grad_(input_needs_gradient);
  const auto once = [&](const torch::Tensor& x) { return net->forward(x); };
  torch::Tensor output = input;
  for (int i = 0; i < 2; ++i) output = checkpointed ? ta::checkpoint(once, output) : once(output);
  const auto noise = torch::rand_like(output);  // the numbers drawn after it are the same too
  (output * noise).sum().backward();
  Result result{{output.detach(), noise}, {}};
  if (input_needs_gradient) result.gradients.push_back(input.grad());
  for (const auto& parameter : net->parameters()) result.gradients.push_back(parameter.grad());
  return result;
}

void expect_same(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << i;
}

TEST(ActivationCheckpoint, GivesTheSameBits) {
  const auto plain = run(false, 0);
  const auto again = run(true, 0);
  expect_same(again.outputs, plain.outputs);
  expect_same(again.gradients, plain.gradients);
}

TEST(ActivationCheckpoint, DrawsTheSameRandomNumbersAgainAndLeavesTheGeneratorWhereItWas) {
  const auto plain = run(false, 0.5);
  const auto again = run(true, 0.5);
  expect_same(again.outputs, plain.outputs);
  expect_same(again.gradients, plain.gradients);
}

TEST(ActivationCheckpoint, TrainsItsParametersWhereTheInputNeedsNoGradient) {
  expect_same(run(true, 0.5, false).gradients, run(false, 0.5, false).gradients);
}

TEST(ActivationCheckpoint, RunsUnderTheAutocastOfItsForward) {
  std::vector<torch::Dtype> seen;
  auto net = block(0);
  const auto input = torch::randn({5, 4}).requires_grad_();
  torch::Tensor output;
  {
    const ta::Autocast autocast(c10::kCPU, ta::MixedPrecision::kBf16);
    output = ta::checkpoint(
        [&](const torch::Tensor& x) {
          const auto y = net->forward(x);
          seen.push_back(y.scalar_type());
          return y;
        },
        input);
  }
  output.to(torch::kFloat32).sum().backward();
  EXPECT_THAT(seen, testing::ElementsAre(torch::kBFloat16, torch::kBFloat16));
  EXPECT_FALSE(at::autocast::is_autocast_enabled(c10::kCPU));
}

TEST(ActivationCheckpoint, KeepsNothingOfWhatTheFunctionMakes) {
  std::weak_ptr<int> alive;
  torch::Tensor output;
  const auto input = torch::randn({3}).requires_grad_();
  const auto make = [&](const torch::Tensor& x) {
    // Memory of a tensor that a backward of exp() would keep.
    auto owner = std::make_shared<int>(0);
    alive = owner;
    auto buffer = std::make_shared<std::vector<float>>(3);
    auto result = torch::from_blob(buffer->data(), {3}, [owner, buffer](void*) {});
    result.copy_(x.detach());
    return x + torch::exp(result * x).sum();
  };
  output = make(input);
  EXPECT_FALSE(alive.expired()) << "the graph keeps it";
  output = ta::checkpoint(make, input);
  EXPECT_TRUE(alive.expired());
  output.sum().backward();
  EXPECT_TRUE(input.grad().defined());
}

TEST(ActivationCheckpoint, TakesAndGivesSeveralTensors) {
  const auto run_pair = [](bool checkpointed) {
    const auto a = torch::linspace(0, 1, 4).requires_grad_();
    const auto b = torch::linspace(1, 2, 4).requires_grad_();
    const auto function = [](const Tensors& in) {
      return Tensors{in[0] * in[1], in[0].sin(), in[1].detach()};
    };
    const auto out = checkpointed ? ta::checkpoint(function, {a, b}) : function({a, b});
    (out[0].sum() + 3 * out[1].sum()).backward();
    return Tensors{a.grad(), b.grad()};
  };
  expect_same(run_pair(true), run_pair(false));
}

TEST(ActivationCheckpoint, RunsOnceWhereNoGradientIsWanted) {
  int runs = 0;
  const torch::NoGradGuard no_grad;
  ta::checkpoint(
      [&](const torch::Tensor& x) {
        ++runs;
        return x * 2;
      },
      torch::ones({2}));
  EXPECT_EQ(runs, 1);
}

TEST(ActivationCheckpoint, GivesTheGradientsOfSomeTensorsOnlyWhereTheseAreAskedFor) {
  const auto gradient = [](bool checkpointed) {
    auto net = block(0);
    const auto once = [&](const torch::Tensor& x) { return net->forward(x); };
    const auto input = torch::ones({2, 4});
    const auto output = checkpointed ? ta::checkpoint(once, input) : once(input);
    const auto parameters = net->parameters();
    torch::autograd::backward({output.sum()}, {}, {}, false, {parameters[0]});
    EXPECT_FALSE(parameters[1].grad().defined());
    return parameters[0].grad();
  };
  EXPECT_TRUE(torch::equal(gradient(true), gradient(false)));
}

TEST(ActivationCheckpoint, TrainsInATrainerAsWithoutIt) {
  const auto trained = [](bool checkpointed) {
    auto net = block(0.3);
    torch::optim::AdamW optimizer(net->parameters(), 0.01);
    const ta::Model model(net, [=](torch::nn::Sequential& of, const ta::Batch& batch) {
      const auto once = [&of](const torch::Tensor& x) { return of->forward(x); };
      return checkpointed ? ta::checkpoint(once, batch["data"]) : once(batch["data"]);
    });
    const ta::SeedScope scope(2);
    const ta::Batch batch{{"data", torch::randn({12, 4})}, {"target", torch::randn({12, 4})}};
    ta::Trainer(model, torch::nn::MSELoss(), optimizer, ta::CallbackList())
        .train(batch, {.num_epochs = 3, .per_device_batch_size = 4});
    return net;
  };
  EXPECT_TRUE(equal_bits(*trained(true), *trained(false)));
}

TEST(ActivationCheckpoint, RefusesWhatIsUndefined) {
  const auto same = [](const torch::Tensor& x) { return x; };
  const auto none = [](const torch::Tensor&) { return torch::Tensor(); };
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::checkpoint(same, torch::Tensor()); }),
              HasSubstr("input 0 is undefined"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::checkpoint(none, torch::ones({1})); }),
              HasSubstr("output 0 is undefined"));
}

TEST(ActivationCheckpoint, RefusesAnEmptyFunction) {
  const std::function<torch::Tensor(const torch::Tensor&)> none;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::checkpoint(none, torch::ones({1})); }),
              HasSubstr("the function is empty"));
}

}  // namespace
}  // namespace tests::activation_checkpoint_test
