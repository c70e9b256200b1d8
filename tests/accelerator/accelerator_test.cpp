// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/accelerator.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "support/tiny.h"

namespace tests::accelerator_test {
namespace {

using testing::HasSubstr;

// The loss of rows [begin, end) of `batch`, as a mean over rows and as a sum with its weight.
torch::Tensor mean_loss(torch::nn::Sequential net, const ta::Batch& batch, std::int64_t begin,
                        std::int64_t end) {
  return torch::mse_loss(net->forward(batch["data"].slice(0, begin, end)),
                         batch["target"].slice(0, begin, end));
}

ta::Mean weighted_loss(torch::nn::Sequential net, const ta::Batch& batch, const torch::Tensor& mask,
                       std::int64_t begin, std::int64_t end) {
  const auto errors =
      (net->forward(batch["data"].slice(0, begin, end)) - batch["target"].slice(0, begin, end))
          .square();
  const auto used = mask.slice(0, begin, end);
  return {(errors * used).sum(), used.sum()};
}

std::vector<torch::Tensor> gradients(const torch::nn::Sequential& net) {
  std::vector<torch::Tensor> all;
  for (const auto& parameter : net->parameters()) all.push_back(parameter.grad().clone());
  return all;
}

double largest_difference(const std::vector<torch::Tensor>& a,
                          const std::vector<torch::Tensor>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, (a[i] - b[i]).abs().max().item<double>());
  }
  return largest;
}

std::vector<torch::Tensor> gradients_of_one_batch(const ta::Batch& batch) {
  auto net = tiny_net(7, torch::kFloat64);
  mean_loss(net, batch, 0, batch.rows()).backward();
  return gradients(net);
}

TEST(Accelerator, RunsOnTheCpuWhereThereIsNoGpu) {
  const ta::Accelerator accelerator({.device = "cpu"});
  EXPECT_TRUE(accelerator.device().is_cpu());
  EXPECT_EQ(accelerator.world_size(), 1);
  EXPECT_TRUE(accelerator.is_main_process());
}

TEST(Accelerator, RefusesADeviceThatIsNotThere) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Accelerator({.device = "gpu7"}); }),
              HasSubstr("unknown device 'gpu7'"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Accelerator({.device = "cuda:99"}); }),
              HasSubstr("'cuda:99' is not there"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Accelerator({.device = "mps"}); }),
              HasSubstr("use cpu or cuda"));
}

TEST(Accelerator, MicroBatchesOfKnownRowsAddUpToOneBatch) {
  const auto batch = tiny_batch(10, 1, torch::kFloat64);
  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  const auto backward = [&](std::int64_t begin, std::int64_t end, bool last) {
    accelerator.backward(
        mean_loss(net, batch, begin, end), optimizer,
        {.rows = end - begin, .window_rows = 10, .micro_batches = 3, .is_last = last});
  };
  backward(0, 4, false);
  backward(4, 8, false);
  EXPECT_TRUE(accelerator.has_open_window(optimizer));
  backward(8, 10, true);
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kReady);
  EXPECT_LT(largest_difference(gradients(net), gradients_of_one_batch(batch)), 1e-15);
}

TEST(Accelerator, AWindowThatEndsEarlierThanPlannedIsCorrected) {
  const auto batch = tiny_batch(6, 1, torch::kFloat64);
  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  accelerator.backward(mean_loss(net, batch, 0, 4), optimizer,
                       {.rows = 4, .micro_batches = 5, .is_last = false});
  accelerator.backward(mean_loss(net, batch, 4, 6), optimizer,
                       {.rows = 2, .micro_batches = 5, .is_last = true});
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kReady);
  EXPECT_LT(largest_difference(gradients(net), gradients_of_one_batch(batch)), 1e-15);
}

TEST(Accelerator, TokenWeightsOfAnySizeAddUpToOneBatch) {
  const auto batch = tiny_batch(12, 1, torch::kFloat64);
  const ta::SeedScope scope(5);
  const auto mask = (torch::rand({12, 3}, torch::kFloat64) > 0.6).to(torch::kFloat64);
  auto whole = tiny_net(7, torch::kFloat64);
  const auto loss = weighted_loss(whole, batch, mask, 0, 12);
  (loss.numerator() / loss.weight()).backward();

  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  const std::vector<std::int64_t> cuts{0, 7, 8, 8, 12};
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    accelerator.backward(weighted_loss(net, batch, mask, cuts[i], cuts[i + 1]), optimizer,
                         {.rows = cuts[i + 1] - cuts[i],
                          .window_rows = 12,
                          .micro_batches = 4,
                          .is_last = i + 2 == cuts.size()});
  }
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kReady);
  EXPECT_LT(largest_difference(gradients(net), gradients(whole)), 1e-15);
  EXPECT_NEAR(accelerator.window_loss(optimizer), (loss.numerator() / loss.weight()).item<double>(),
              1e-15);
}

TEST(Accelerator, AWindowOfWeightZeroIsEmptyAndTheNextOneIsExact) {
  const auto batch = tiny_batch(4, 1, torch::kFloat64);
  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  const auto none = torch::zeros({4, 3}, torch::kFloat64);
  accelerator.backward(weighted_loss(net, batch, none, 0, 4), optimizer, {.rows = 4});
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kEmpty);
  EXPECT_FALSE(accelerator.step(optimizer));
  EXPECT_TRUE(equal_bits(*net, *tiny_net(7, torch::kFloat64)));

  const auto all = torch::ones({4, 3}, torch::kFloat64);
  accelerator.backward(weighted_loss(net, batch, all, 0, 4), optimizer, {.rows = 4});
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kReady);
  EXPECT_LT(largest_difference(gradients(net), gradients_of_one_batch(batch)), 1e-15);
}

TEST(Accelerator, AWeightThatIsNotANumberNeverReachesTheGradients) {
  const auto batch = tiny_batch(4);
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  const auto loss = mean_loss(net, batch, 0, 4);
  accelerator.backward(ta::Mean(loss, torch::full({}, std::nan(""))), optimizer, {.rows = 4});
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kNotFinite);
  EXPECT_FALSE(accelerator.step(optimizer));
  EXPECT_TRUE(equal_bits(*net, *tiny_net()));
}

TEST(Accelerator, RefusesAPositionThatIsNone) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  const auto refusal = [&](const ta::WindowPosition& position) {
    return message_of<ta::ArgumentError>(
        [&] { accelerator.backward(mean_loss(net, tiny_batch(4), 0, 4), optimizer, position); });
  };
  EXPECT_THAT(refusal({.rows = -1, .micro_batches = 0}),
              testing::AllOf(HasSubstr("rows must be >= 0, got -1"),
                             HasSubstr("micro_batches must be >= 1, got 0")));
  EXPECT_THAT(refusal({.rows = 4, .window_rows = 3}), HasSubstr("window_rows is 3, of which 4"));
}

TEST(Accelerator, GradientsStayOutOfOtherOptimizersWhenAllOfItsOwnAreFrozen) {
  auto net = tiny_net();
  torch::optim::SGD first_layer(net->children().front()->parameters(), 0.1);
  for (auto& parameter : net->children().front()->parameters()) parameter.set_requires_grad(false);
  ta::Accelerator accelerator({.device = "cpu"});
  accelerator.backward(mean_loss(net, tiny_batch(4), 0, 4), first_layer, {.rows = 4},
                       /*only_own_parameters=*/true);
  EXPECT_FALSE(net->parameters()[2].grad().defined());
}

TEST(Accelerator, KeepsGradientsToTheOptimizersOwnParametersWhenAsked) {
  auto net = tiny_net();
  torch::optim::SGD first_layer(net->children().front()->parameters(), 0.1);
  ta::Accelerator accelerator({.device = "cpu"});
  const auto batch = tiny_batch(4);
  accelerator.backward(mean_loss(net, batch, 0, 4), first_layer, {.rows = 4},
                       /*only_own_parameters=*/true);
  EXPECT_TRUE(net->parameters()[0].grad().defined());
  EXPECT_FALSE(net->parameters()[2].grad().defined());
}

TEST(Accelerator, RefusesALossWithoutAGraph) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Accelerator accelerator({.device = "cpu"});
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { accelerator.backward(torch::ones({}), optimizer); }),
      HasSubstr("no graph"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { accelerator.backward(ta::Mean(), optimizer); }),
              HasSubstr("no value"));
}

TEST(Accelerator, ClipsTheNormAsPyTorchDoesAndReturnsIt) {
  const auto batch = tiny_batch(4);
  auto ours = tiny_net();
  auto theirs = tiny_net();
  auto optimizer = sgd(ours);
  const ta::Accelerator accelerator({.device = "cpu"});
  mean_loss(ours, batch, 0, 4).backward();
  mean_loss(theirs, batch, 0, 4).backward();
  const auto norm = accelerator.clip_gradient_norm(optimizer, 0.1);
  const double expected = torch::nn::utils::clip_grad_norm_(theirs->parameters(), 0.1);
  EXPECT_NEAR(norm.item<double>(), expected, 1e-7 * expected);
  EXPECT_LT(largest_difference(gradients(ours), gradients(theirs)), 1e-8);
}

TEST(Accelerator, LeavesGradientsBelowTheNormBitForBit) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  mean_loss(net, tiny_batch(4), 0, 4).backward();
  const auto before = gradients(net);
  ta::Accelerator({.device = "cpu"}).clip_gradient_norm(optimizer, 1e6);
  EXPECT_EQ(largest_difference(gradients(net), before), 0.0);
}

TEST(Accelerator, GathersAndReducesInAWorldOfOne) {
  ta::Accelerator accelerator({.device = "cpu"});
  const auto tensor = torch::arange(6).reshape({2, 3});
  EXPECT_TRUE(accelerator.gather(tensor).equal(tensor));
  const auto sum = accelerator.reduce(tensor);
  EXPECT_TRUE(sum.equal(tensor));
  EXPECT_NE(sum.data_ptr(), tensor.data_ptr());
}

TEST(Autocast, RunsMatrixProductsInBf16AndGivesBackWhatWas) {
  const ta::Accelerator accelerator(
      {.device = "cpu", .mixed_precision = ta::MixedPrecision::kBf16});
  auto net = tiny_net();
  const auto batch = tiny_batch(4);
  {
    const auto autocast = accelerator.autocast();
    EXPECT_EQ(net->forward(batch["data"]).scalar_type(), torch::kBFloat16);
  }
  EXPECT_EQ(net->forward(batch["data"]).scalar_type(), torch::kFloat32);
}

TEST(SeedScope, SeedsAndGivesTheGeneratorBack) {
  torch::manual_seed(3);
  const auto expected = torch::rand({4});
  torch::manual_seed(3);
  torch::Tensor inside;
  {
    const ta::SeedScope scope(11);
    inside = torch::rand({4});
  }
  EXPECT_TRUE(torch::rand({4}).equal(expected));
  const ta::SeedScope again(11);
  EXPECT_TRUE(torch::rand({4}).equal(inside));
}

}  // namespace
}  // namespace tests::accelerator_test
