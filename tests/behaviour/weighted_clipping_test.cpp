// SPDX-License-Identifier: Apache-2.0
// Gradients of token-weighted losses are made exact before clipping and before any step sees them.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "support/tiny.h"

namespace tests::weighted_clipping_test {
namespace {

constexpr std::int64_t kRows = 40;  // windows of 12, 12, 12 and 4
constexpr std::int64_t kWindow = 12;
constexpr std::int64_t kEpochs = 2;
constexpr std::size_t kUpdates = 8;

// What fp64 sums in another order may differ by.
constexpr double kTolerance = 1e-12;

// Rows weigh 0, or between 0.5 and 12.5 more and more, so that no two windows weigh the same.
ta::Batch weighted_rows() {
  auto rows = tiny_batch(kRows, 1, torch::kFloat64);
  const ta::SeedScope seed(3);
  rows.set("weight", torch::rand({kRows}, torch::kFloat64)
                         .add(torch::linspace(0.5, 11.5, kRows, torch::kFloat64))
                         .mul(torch::randint(0, 2, {kRows}, torch::kFloat64)));
  return rows;
}

ta::Mean weighted_error(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto errors = (outputs.only() - batch["target"]).square().sum(1);
  return {(errors * batch["weight"]).sum(), batch["weight"].sum()};
}

// All gradients of an optimizer in one row.
torch::Tensor gradients_of(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> parts;
  for (const auto& parameter : optimizer.param_groups().front().params()) {
    parts.push_back(parameter.grad().flatten().clone());
  }
  return torch::cat(parts);
}

struct Trained {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  std::vector<torch::Tensor> given;    // to clip_gradients, of each update
  std::vector<torch::Tensor> stepped;  // by the optimizer
};

class Recording : public ta::Trainer {
 public:
  Recording(Trained& trained, torch::optim::Optimizer& optimizer)
      : Trainer(trained.net, weighted_error, optimizer, ta::CallbackList()), trained_(&trained) {}

 protected:
  torch::Tensor clip_gradients(torch::optim::Optimizer& of) override {
    trained_->given.push_back(gradients_of(of));
    return Trainer::clip_gradients(of);
  }
  void optimizer_step(torch::optim::Optimizer& of) override {
    trained_->stepped.push_back(gradients_of(of));
    Trainer::optimizer_step(of);
  }

 private:
  Trained* trained_;
};

Trained by_trainer(std::int64_t micro_batches, ta::TrainOptions options) {
  Trained trained;
  auto optimizer = sgd(trained.net);
  Recording trainer(trained, optimizer);
  options.num_epochs = kEpochs;
  options.per_device_batch_size = kWindow / micro_batches;
  options.gradient_accumulation_steps = micro_batches;
  options.train_loader.shuffle = false;
  trainer.train(weighted_rows(), options);
  return trained;
}

// A loop that has each window's rows at once and divides by their weight.
Trained by_hand(const std::function<void(const std::vector<torch::Tensor>&)>& clip) {
  Trained trained;
  auto optimizer = sgd(trained.net);
  const auto rows = weighted_rows();
  for (std::int64_t at = 0; at < kEpochs * kRows; at += std::min(kWindow, kRows - at % kRows)) {
    const auto window = [&](const char* name) {
      return rows[name].slice(0, at % kRows, std::min(at % kRows + kWindow, kRows));
    };
    const auto weight = window("weight");
    const auto errors = (trained.net->forward(window("data")) - window("target")).square().sum(1);
    optimizer.zero_grad();
    ((errors * weight).sum() / weight.sum()).backward();
    trained.given.push_back(gradients_of(optimizer));
    clip(trained.net->parameters());
    trained.stepped.push_back(gradients_of(optimizer));
    optimizer.step();
  }
  return trained;
}

void expect_near(const std::vector<torch::Tensor>& ours, const std::vector<torch::Tensor>& theirs) {
  ASSERT_EQ(ours.size(), kUpdates);
  ASSERT_EQ(theirs.size(), kUpdates);
  for (std::size_t i = 0; i < kUpdates; ++i) {
    const double difference = (ours[i] - theirs[i]).abs().max().item<double>();
    EXPECT_LE(difference, kTolerance * theirs[i].abs().max().item<double>()) << "update " << i;
  }
}

void expect_same(const Trained& ours, const Trained& theirs) {
  expect_near(ours.given, theirs.given);
  expect_near(ours.stepped, theirs.stepped);
  EXPECT_LE(relative_difference(*ours.net, *theirs.net), kTolerance);
}

// Updates in which clipping left the gradients alone.
std::int64_t unclipped(const Trained& trained) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < trained.given.size(); ++i) {
    count += torch::equal(trained.given[i], trained.stepped[i]);
  }
  return count;
}

// Else every window's weight may be the expected one, and nothing is there to correct.
TEST(WeightedClipping, WindowsOfItsRowsWeighNoPowerOfTwoTimesTheirRows) {
  const auto weights = weighted_rows()["weight"];
  for (std::int64_t first = 0; first < kRows; first += kWindow) {
    const auto window = weights.slice(0, first, std::min(first + kWindow, kRows));
    int exponent = 0;
    const double ratio = window.sum().item<double>() / static_cast<double>(window.size(0));
    EXPECT_GT(std::abs(std::frexp(ratio, &exponent) - 0.5), 1e-3);
  }
}

class WeightedClipping : public testing::TestWithParam<std::int64_t> {};

TEST_P(WeightedClipping, ByNormIsOfTheExactGradients) {
  constexpr double kNorm = 4;
  const auto theirs = by_hand([](const std::vector<torch::Tensor>& parameters) {
    torch::nn::utils::clip_grad_norm_(parameters, kNorm);
  });
  ASSERT_GT(unclipped(theirs), 0) << "else a wrong factor is clipped away";
  ASSERT_LT(unclipped(theirs), static_cast<std::int64_t>(kUpdates));
  expect_same(by_trainer(GetParam(), {.clip_gradient_norm = kNorm}), theirs);
}

TEST_P(WeightedClipping, ByValueIsOfTheExactGradients) {
  constexpr double kValue = 0.5;
  const auto theirs = by_hand([](const std::vector<torch::Tensor>& parameters) {
    torch::nn::utils::clip_grad_value_(parameters, kValue);
  });
  for (const auto& gradients : theirs.given) {
    const auto share = gradients.abs().gt(kValue).to(torch::kFloat64).mean().item<double>();
    ASSERT_GT(share, 0.1);
    ASSERT_LT(share, 0.9) << "else a wrong factor is clipped away";
  }
  expect_same(by_trainer(GetParam(), {.clip_gradient_value = kValue}), theirs);
}

INSTANTIATE_TEST_SUITE_P(MicroBatches, WeightedClipping, testing::Values(1, 2, 3));

}  // namespace
}  // namespace tests::weighted_clipping_test
