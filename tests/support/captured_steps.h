// SPDX-License-Identifier: Apache-2.0
// What tests of captured steps share. Rates are powers of two, which float32, in which a GPU's
// recorded steps read them, has.
#pragma once

#include <gmock/gmock.h>
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/fake_graphs.h"
#include "support/tiny.h"

namespace tests::captured {

inline constexpr double kRate = 0.015625;

inline ta::AcceleratorOptions options_of(bool capture) {
  return {.device = "cpu", .verdicts = ta::Verdicts::kLate, .capture_graph = capture};
}

inline torch::nn::Sequential net_with_norm_and_dropout() {
  const ta::SeedScope scope(3);
  return torch::nn::Sequential(torch::nn::Linear(4, 6), torch::nn::BatchNorm1d(6),
                               torch::nn::ReLU(), torch::nn::Dropout(0.25),
                               torch::nn::Linear(6, 3));
}

inline torch::optim::AdamW adamw(const torch::nn::Sequential& net) {
  return torch::optim::AdamW(net->parameters(),
                             torch::optim::AdamWOptions(kRate).weight_decay(0.1).amsgrad(true));
}

inline torch::optim::SGD nesterov(const torch::nn::Sequential& net) {
  return torch::optim::SGD(net->parameters(),
                           torch::optim::SGDOptions(kRate).momentum(0.9).nesterov(true));
}

inline std::vector<std::int64_t> steps_of(const torch::optim::Optimizer& optimizer) {
  std::vector<std::int64_t> steps;
  for (const auto& [key, state] : optimizer.state()) {
    if (const auto* of_adamw = dynamic_cast<const torch::optim::AdamWParamState*>(state.get())) {
      steps.push_back(of_adamw->step());
    }
  }
  std::sort(steps.begin(), steps.end());  // the state's order is that of addresses
  return steps;
}

/// Counts how often its steps run; the loss is weighted where the batch has weights.
class CountingTrainer : public ta::Trainer {
 public:
  CountingTrainer(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
                  ta::Accelerator& accelerator)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator),
        net_(net) {}

  int steps = 0;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    ++steps;
    auto output = Trainer::calculate_train_batch_loss(batch);
    output.scalars.emplace_back("size", ta::Mean(output.loss.value().detach().abs()));
    if (!batch.contains("weight")) return output;
    const auto each = (net_->forward(batch["data"]) - batch["target"]).square().mean(1);
    output.loss = ta::Mean((each * batch["weight"]).sum(), batch["weight"].sum());
    return output;
  }

 private:
  torch::nn::Sequential net_;
};

struct Outcome {
  torch::nn::Sequential net = nullptr;
  std::vector<std::int64_t> steps_made = {};
  std::vector<double> losses = {};  // of each micro-batch, as events have them
  std::vector<std::vector<double>> history = {};
  double last_loss = 0;
  int step_calls = 0;
};

using MakeNet = torch::nn::Sequential (*)();
inline torch::nn::Sequential plain_net() { return tiny_net(); }

template <class MakeOptimizer>
Outcome outcome_of(bool capture, const ta::Batch& rows, ta::TrainOptions options,
                   const MakeOptimizer& make_optimizer, MakeNet make_net = plain_net,
                   const AtStepEnd::Action& at_step_end = {}) {
  torch::manual_seed(11);
  ta::Accelerator accelerator(options_of(capture));
  Outcome outcome{.net = make_net()};
  auto optimizer = make_optimizer(outcome.net);
  CountingTrainer trainer(outcome.net, optimizer, accelerator);
  std::vector<ta::Mean> losses;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
    losses.push_back(event.output.loss);  // kept over later replays
    if (at_step_end) at_step_end(of, event);
  }));
  trainer.train(rows, std::move(options));
  for (const auto& loss : losses) outcome.losses.push_back(loss.value().item<double>());
  outcome.steps_made = steps_of(optimizer);
  for (const char* name : {"train_loss", "train_size", "eval_loss", "learning_rate",
                           "gradient_norm", "skipped_updates"}) {
    outcome.history.push_back(trainer.history().values(name));
  }
  outcome.last_loss = trainer.progress().loss;
  outcome.step_calls = trainer.steps;
  return outcome;
}

inline void expect_equal(const Outcome& captured, const Outcome& plain) {
  EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
  const auto buffers = captured.net->buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_TRUE(torch::equal(buffers[i], plain.net->buffers()[i]));
  }
  EXPECT_EQ(captured.steps_made, plain.steps_made);
  EXPECT_EQ(captured.losses, plain.losses);
  EXPECT_EQ(captured.history, plain.history);
  EXPECT_EQ(captured.last_loss, plain.last_loss);
}

/// What a fake GPU did.
struct Graphs {
  int recorded;
  int replayed;
};

/// Captured steps give the bits of plain ones: those of a GPU, whose graphs a fake has, and the
/// CPU's.
template <class MakeOptimizer>
Graphs expect_bits_of_plain_steps(const ta::Batch& rows, const ta::TrainOptions& options,
                                  const MakeOptimizer& make_optimizer, MakeNet make_net = plain_net,
                                  const AtStepEnd::Action& at_step_end = {}) {
  const auto outcome = [&](bool capture) {
    return outcome_of(capture, rows, options, make_optimizer, make_net, at_step_end);
  };
  const auto plain = outcome(false);
  const auto on_cpu = outcome(true);
  EXPECT_LT(on_cpu.step_calls, plain.step_calls / 2);
  expect_equal(on_cpu, plain);
  const FakeGraphs graphs;
  const auto on_gpu = outcome(true);
  EXPECT_GT(graphs.recorded(), 0);
  EXPECT_GT(graphs.replayed(), plain.step_calls / 2);
  EXPECT_EQ(on_gpu.step_calls + graphs.replayed() - graphs.recorded(), plain.step_calls);
  expect_equal(on_gpu, plain);
  return {graphs.recorded(), graphs.replayed()};
}

inline ta::Batch weighted(std::int64_t rows) {
  auto batch = tiny_batch(rows);
  batch.set("weight", torch::arange(rows, torch::kFloat32).remainder(5));
  return batch;
}

inline ta::TrainOptions three_epochs() {
  return {.num_epochs = 3,
          .per_device_batch_size = 4,
          .scheduler = ta::step_decay({.every_updates = 3, .factor = 0.5})};
}

}  // namespace tests::captured
