// SPDX-License-Identifier: Apache-2.0
// Steps that are captured on the CPU give the bits of steps that run as they are.
#include "support/host_captured_steps.h"

namespace tests::host_captured_step_test {
namespace {

using namespace captured;

torch::nn::Sequential convolutions() {
  const ta::SeedScope scope(4);
  using torch::nn::Conv2dOptions;
  return torch::nn::Sequential(
      torch::nn::Conv2d(Conv2dOptions(2, 4, 3).padding(1)), torch::nn::BatchNorm2d(4),
      torch::nn::ReLU(torch::nn::ReLUOptions().inplace(true)), torch::nn::MaxPool2d(2),
      torch::nn::Conv2d(Conv2dOptions(4, 3, 3).groups(1)), torch::nn::AdaptiveAvgPool2d(2),
      torch::nn::Flatten(), torch::nn::Linear(12, 3));
}

TEST(HostCapturedSteps, OfAConvolutionalNetGiveTheBitsOfPlainSteps) {
  const ta::SeedScope scope(1);
  const ta::Batch rows{{"data", torch::randn({40, 2, 8, 8})},
                       {"target", torch::randint(3, {40}, torch::kLong)}};
  const auto step = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    return torch::cross_entropy_loss(net->forward(batch["data"]), batch["target"]);
  };
  expect_same_bits(rows, convolutions, step);
  expect_same_bits(
      rows, convolutions, step,
      {.device = "cpu", .mixed_precision = ta::MixedPrecision::kBf16, .channels_last = true});
}

struct TokensImpl : torch::nn::Module {
  TokensImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(11, 8));
    layer = register_module(
        "layer",
        torch::nn::TransformerEncoderLayer(
            torch::nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16).dropout(0.1)));
    recurrent = register_module("recurrent", torch::nn::LSTM(8, 5));
    head = register_module("head", torch::nn::Linear(5, 11));
  }

  torch::Tensor forward(const torch::Tensor& tokens) {
    const auto hidden = layer->forward(embedding->forward(tokens.t()));
    return head->forward(std::get<0>(recurrent->forward(hidden))).permute({1, 2, 0});
  }

  torch::nn::Embedding embedding{nullptr};
  torch::nn::TransformerEncoderLayer layer{nullptr};
  torch::nn::LSTM recurrent{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Tokens);

TEST(HostCapturedSteps, OfATransformerWithARecurrentLayerGiveTheBitsOfPlainSteps) {
  const ta::SeedScope scope(1);
  const ta::Batch rows{{"data", torch::randint(11, {40, 6}, torch::kLong)},
                       {"target", torch::randint(11, {40, 6}, torch::kLong)}};
  expect_same_bits(
      rows,
      +[] {
        const ta::SeedScope of_net(2);
        return torch::nn::Sequential(Tokens());
      },
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        return torch::cross_entropy_loss(net->forward(batch["data"]), batch["target"]);
      });
}

TEST(HostCapturedSteps, MayCheckpointActivationsAndChangeTensorsInPlace) {
  expect_same_bits(
      tiny_batch(40), plain_net, [](torch::nn::Sequential& net, const ta::Batch& batch) {
        auto made = ta::checkpoint([&](const torch::Tensor& x) { return net->forward(x).tanh(); },
                                   batch["data"]);
        auto apart = made - batch["target"];
        apart.unsqueeze_(0).transpose_(1, 2);
        const auto order = torch::randperm(3);
        return apart.squeeze(0)
            .t()
            .index({torch::indexing::Slice(), order})
            .square_()
            .mul_(2.0)
            .mean();
      });
}

TEST(HostCapturedSteps, ReadTensorsThatAreConstant) {
  const auto scale = torch::tensor({1.0F, 2.0F, 3.0F});
  expect_same_bits(tiny_batch(40), plain_net,
                   [&](torch::nn::Sequential& net, const ta::Batch& batch) {
                     const auto made_here = torch::tensor({0.5F, 0.25F, 0.125F});
                     const auto apart = net->forward(batch["data"]) - batch["target"];
                     return (apart.square() * scale * made_here).sum();
                   });
}

TEST(HostCapturedSteps, MayHaveOperationsOfAProgramsOwn) {
  expect_same_bits(tiny_batch(40), plain_net,
                   [](torch::nn::Sequential& net, const ta::Batch& batch) {
                     return squares(net, batch) * positive(batch["data"], false).mean();
                   });
}

TEST(HostCapturedSteps, CallOperationsThatChangeTensorsAsOftenAsPlainSteps) {
  const auto counted = torch::zeros({});
  const auto looked = torch::zeros({});
  const auto step = [&](torch::nn::Sequential& net, const ta::Batch& batch) {
    const torch::NoGradGuard no_grad;
    own_operation<void(const torch::Tensor&, torch::Tensor)>("look_at", batch["data"], looked);
    const auto data = own_operation<torch::Tensor(const torch::Tensor&, torch::Tensor)>(
        "count", batch["data"], counted);
    const torch::AutoGradMode with_graph(true);
    return squares(net, {{"data", data}, {"target", batch["target"]}});
  };
  expect_same_bits(tiny_batch(40), plain_net, step);
  EXPECT_EQ(counted.item<int>(), 2 * 30);  // of a plain run and a captured one
  EXPECT_EQ(looked.item<int>(), 2 * 30);
}

TEST(HostCapturedSteps, MakeCopiesAnewThatAreMadeInInferenceMode) {
  expect_same_bits(
      tiny_batch(40), plain_net, [](torch::nn::Sequential& net, const ta::Batch& batch) {
        torch::Tensor mask;
        {
          const c10::InferenceMode inference;
          mask = (batch["data"] > 1.5).all(1, /*keepdim=*/true).logical_not().to(torch::kFloat);
        }
        return ((net->forward(batch["data"]) - batch["target"]).square() * mask.clone()).mean();
      });
}

TEST(HostCapturedSteps, MayChangeTheirBatchInPlace) {
  expect_same_bits(tiny_batch(40), plain_net,
                   [](torch::nn::Sequential& net, const ta::Batch& batch) {
                     const auto clamped = batch["data"].clamp_(-1, 1);
                     return (net->forward(clamped) - batch["target"]).square().mean();
                   });
}

TEST(HostCapturedSteps, LeaveTensorsInMembersThatTheNextStepRenews) {
  std::vector<std::vector<double>> seen(2);
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    auto net = plain_net();
    auto optimizer = nesterov(net);
    torch::Tensor kept;
    Trained trainer(net, optimizer, accelerator,
                    [&](torch::nn::Sequential& of, const ta::Batch& batch) {
                      const auto loss = squares(of, batch);
                      kept = loss.detach();
                      return loss;
                    });
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd&) {
      seen[capture ? 1 : 0].push_back(kept.item<double>());
    }));
    trainer.train(tiny_batch(40), {.num_epochs = 2, .per_device_batch_size = 4});
  }
  EXPECT_EQ(seen[1], seen[0]);
}

TEST(HostCapturedSteps, OfTwoTrainersOnOneAcceleratorAreEachItsOwn) {
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    nets.push_back(tiny_net(1));
    nets.push_back(tiny_net(2));
    auto& one = nets[nets.size() - 2];
    auto& other = nets.back();
    auto of_one = nesterov(one);
    auto of_other = nesterov(other);
    Trained first(one, of_one, accelerator, squares);
    Trained second(other, of_other, accelerator, squares);
    first.start({});
    second.start({});
    for (const int each : {1, 2, 1, 0}) {  // in turns, then one alone, and in turns
      for (std::uint64_t i = 0; i < 10; ++i) {
        if (each != 2) first.step(tiny_batch(4, i));
        if (each != 1) second.step(tiny_batch(4, i + 50));
      }
    }
    first.finish();
    second.finish();
    EXPECT_EQ(first.steps < 20, capture);
  }
  EXPECT_TRUE(equal_bits(*nets[0], *nets[2]));
  EXPECT_TRUE(equal_bits(*nets[1], *nets[3]));
}

TEST(HostCapturedSteps, SeeParametersThatNoOptimizerHasWhenTheyMove) {
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    nets.push_back(tiny_net());
    auto& net = nets.back();
    auto first = net->children().front()->parameters();
    torch::optim::SGD optimizer(net->children().back()->parameters(), kRate);
    Trained trainer(net, optimizer, accelerator, squares);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
      if (event.updates == 12) first.front().set_data(torch::ones_like(first.front()));
    }));
    trainer.train(tiny_batch(40), {.num_epochs = 2, .per_device_batch_size = 2});
    EXPECT_EQ(trainer.steps < 12, capture);
  }
  EXPECT_TRUE(equal_bits(*nets[0], *nets[1]));
}

}  // namespace
}  // namespace tests::host_captured_step_test
