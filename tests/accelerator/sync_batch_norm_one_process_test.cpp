// SPDX-License-Identifier: Apache-2.0
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "accelerator/sync_batch_norm_ranks.h"
#include "support/tiny.h"

namespace tests::sync_batch_norm_one_process_test {
namespace {

using torch::nn::BatchNormOptions;

/// A batch that ranks share, and the gradient that each of its numbers gets.
struct Problem {
  std::vector<std::int64_t> rows;   // of each rank; 0: the rank runs one borrowed row
  std::vector<std::int64_t> shape;  // of a row, channels first
  torch::Dtype dtype = torch::kFloat64;
  double mean = 0.5;
  double deviation = 2;
  bool own_nothing = false;  // a rank with 0 rows runs an empty batch instead of a borrowed row

  torch::Tensor batch(std::uint64_t seed) const {
    // A generator of its own: ranks are threads, and torch's is one for all of them.
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
    std::vector<std::int64_t> sizes{std::accumulate(rows.begin(), rows.end(), std::int64_t{0})};
    sizes.insert(sizes.end(), shape.begin(), shape.end());
    return torch::randn(sizes, generator, torch::kFloat64).mul_(deviation).add_(mean).to(dtype);
  }
  torch::Tensor part(const torch::Tensor& batch, std::size_t rank) const {
    const auto first =
        std::accumulate(rows.begin(), rows.begin() + static_cast<long>(rank), std::int64_t{0});
    return batch.narrow(0, first, rows[rank]);
  }
};

/// What two steps of a normalisation left behind.
struct Outcome {
  std::vector<torch::Tensor> outputs, input_gradients;
  std::vector<torch::Tensor> parameter_gradients, buffers;
};

template <class Norm>
void set_parameters(Norm& norm, torch::Dtype dtype) {
  norm.to(dtype);
  if (!norm.weight.defined()) return;
  const torch::NoGradGuard no_grad;
  const auto channels = norm.weight.numel();
  norm.weight.copy_(torch::linspace(0.5, 1.5, channels, dtype));
  norm.bias.copy_(torch::linspace(-1, 1, channels, dtype));
}

torch::Dtype parameter_dtype(torch::Dtype input) {
  return input == torch::kBFloat16 ? torch::kFloat32 : input;
}

/// Two steps of `norm`; `part(tensor)` is what this rank has of a batch or of its gradients.
template <class Norm, class Part>
Outcome two_steps(Norm& norm, const Problem& problem, Part&& part) {
  set_parameters(norm, parameter_dtype(problem.dtype));
  Outcome outcome;
  for (const std::uint64_t step : {1, 2}) {
    const auto input = part(problem.batch(step)).clone().requires_grad_();
    auto of_unit_size = problem;
    of_unit_size.mean = 0.1;
    of_unit_size.deviation = 1;
    const auto gradient = part(of_unit_size.batch(step + 10));
    const auto output = norm.forward(input);
    output.backward(gradient);
    outcome.outputs.push_back(output.detach());
    outcome.input_gradients.push_back(input.grad());
  }
  for (const auto& parameter : norm.parameters()) {
    outcome.parameter_gradients.push_back(parameter.grad());
  }
  outcome.buffers = norm.buffers();
  return outcome;
}

/// What one process makes of the whole batches.
Outcome on_one_process(const Problem& problem, const BatchNormOptions& options) {
  const auto whole = [](const torch::Tensor& batch) { return batch; };
  switch (problem.shape.size()) {
    case 3: {
      torch::nn::BatchNorm2d norm(options);
      return two_steps(*norm, problem, whole);
    }
    case 4: {
      torch::nn::BatchNorm3d norm(options);
      return two_steps(*norm, problem, whole);
    }
    default: {
      torch::nn::BatchNorm1d norm(options);
      return two_steps(*norm, problem, whole);
    }
  }
}

std::vector<Outcome> on_ranks(const Problem& problem, const BatchNormOptions& options) {
  std::vector<Outcome> outcomes(problem.rows.size());
  run_ranks(problem.rows.size(), [&](std::size_t rank, const Group& group) {
    ta::SyncBatchNorm norm(options);
    norm->set_group(group);
    const bool borrows = problem.rows[rank] == 0 && !problem.own_nothing;
    group->rows_count = !borrows;
    outcomes[rank] = two_steps(*norm, problem, [&](const torch::Tensor& batch) {
      return borrows ? batch.narrow(0, 0, 1) : problem.part(batch, rank);
    });
  });
  return outcomes;
}

double difference(const torch::Tensor& a, const torch::Tensor& expected) {
  if (a.sizes() != expected.sizes() || a.dtype() != expected.dtype()) return INFINITY;
  if (expected.numel() == 0) return 0;
  const auto x = a.to(torch::kFloat64);
  const auto y = expected.to(torch::kFloat64);
  return ((x - y).abs().max() / y.abs().max().clamp_min(1e-30)).item<double>();
}

/// Rows of all ranks that have any, in order.
torch::Tensor joined(const Problem& problem, const std::vector<Outcome>& ranks,
                     std::vector<torch::Tensor> Outcome::* member, std::size_t step) {
  std::vector<torch::Tensor> parts;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (problem.rows[rank] > 0) parts.push_back((ranks[rank].*member)[step]);
  }
  return torch::cat(parts);
}

void expect_one_process(const Problem& problem, const BatchNormOptions& options, double tolerance) {
  const auto whole = on_one_process(problem, options);
  const auto ranks = on_ranks(problem, options);
  for (std::size_t step = 0; step < 2; ++step) {
    EXPECT_LE(difference(joined(problem, ranks, &Outcome::outputs, step), whole.outputs[step]),
              tolerance);
    EXPECT_LE(difference(joined(problem, ranks, &Outcome::input_gradients, step),
                         whole.input_gradients[step]),
              tolerance);
  }
  for (std::size_t i = 0; i < whole.parameter_gradients.size(); ++i) {
    auto sum = torch::zeros_like(whole.parameter_gradients[i]);
    for (const auto& rank : ranks) sum += rank.parameter_gradients[i];
    EXPECT_LE(difference(sum, whole.parameter_gradients[i]), tolerance);
  }
  for (const auto& rank : ranks) {
    ASSERT_EQ(rank.buffers.size(), whole.buffers.size());
    for (std::size_t i = 0; i < whole.buffers.size(); ++i) {
      EXPECT_LE(difference(rank.buffers[i], whole.buffers[i]), tolerance);
      EXPECT_TRUE(torch::equal(rank.buffers[i], ranks[0].buffers[i])) << "replicas differ";
    }
  }
}

// What sums in another order differ by.
constexpr double kDouble = 1e-12;
constexpr double kFloat = 2e-6;

TEST(SyncBatchNorm, EqualsOneProcessOnTwoThreeAndFourRanks) {
  for (const auto& rows :
       std::vector<std::vector<std::int64_t>>{{4, 4}, {1, 2}, {5, 3, 1}, {2, 7, 1}, {6, 1, 2, 5}}) {
    expect_one_process({.rows = rows, .shape = {6}}, BatchNormOptions(6), kDouble);
    expect_one_process({.rows = rows, .shape = {6}, .dtype = torch::kFloat32}, BatchNormOptions(6),
                       kFloat);
  }
}

TEST(SyncBatchNorm, EqualsOneProcessOnInputsOfAnyDimension) {
  for (const auto& shape :
       std::vector<std::vector<std::int64_t>>{{3}, {3, 7}, {3, 4, 5}, {3, 2, 3, 2}, {1, 8, 8}}) {
    const BatchNormOptions options(shape[0]);
    expect_one_process({.rows = {5, 3, 1}, .shape = shape}, options, kDouble);
    expect_one_process({.rows = {5, 3, 1}, .shape = shape, .dtype = torch::kFloat32}, options,
                       kFloat);
  }
}

TEST(SyncBatchNorm, ABorrowedRowChangesNothing) {
  for (const auto& rows : std::vector<std::vector<std::int64_t>>{
           {5, 0}, {0, 5}, {5, 3, 1, 0}, {0, 3, 0}, {0, 0, 3, 1}}) {
    expect_one_process({.rows = rows, .shape = {4}}, BatchNormOptions(4), kDouble);
    expect_one_process({.rows = rows, .shape = {4, 3, 2}}, BatchNormOptions(4), kDouble);
  }
}

TEST(SyncBatchNorm, ABorrowedRowIsNormalisedAsTheOthersAndGivesNoGradient) {
  const Problem problem{.rows = {5, 0}, .shape = {4}};
  const auto ranks = on_ranks(problem, BatchNormOptions(4));
  EXPECT_LE(difference(ranks[1].outputs[0][0], ranks[0].outputs[0][0]), kDouble);
  EXPECT_TRUE(ranks[1].input_gradients[0].equal(torch::zeros({1, 4}, torch::kFloat64)));
  for (const auto& gradient : ranks[1].parameter_gradients) {
    EXPECT_TRUE(gradient.equal(torch::zeros({4}, torch::kFloat64)));
  }
}

TEST(SyncBatchNorm, AnEmptyBatchIsAPartToo) {
  expect_one_process({.rows = {5, 0, 2}, .shape = {4, 3}, .own_nothing = true}, BatchNormOptions(4),
                     kDouble);
}

TEST(SyncBatchNorm, EqualsOneProcessWithEveryOption) {
  for (const bool affine : {true, false}) {
    for (const bool track : {true, false}) {
      for (const std::optional<double> momentum :
           {std::optional<double>(0.3), std::optional<double>()}) {
        expect_one_process(
            {.rows = {5, 3, 1}, .shape = {4, 3}},
            BatchNormOptions(4).eps(0.01).affine(affine).track_running_stats(track).momentum(
                momentum),
            kDouble);
      }
    }
  }
}

TEST(SyncBatchNorm, AMeanFarFromZeroCostsNoDigits) {
  // float64 keeps a mean of 1e4 to 2e-12, here and in torch's own; the difference of squares would
  // be wrong by 1e-8.
  expect_one_process({.rows = {50, 30, 10}, .shape = {4, 5}, .mean = 1e4, .deviation = 1},
                     BatchNormOptions(4), 5e-11);

  // In float32 torch's own rounds the mean to 1e-3 of the deviation; what is right is float64 of
  // the same numbers.
  const BatchNormOptions options(4);
  Problem problem{
      .rows = {50, 30, 10}, .shape = {4, 5}, .dtype = torch::kFloat32, .mean = 1e4, .deviation = 1};
  const auto ranks = on_ranks(problem, options);
  torch::nn::BatchNorm1d norm(options);
  set_parameters(*norm, torch::kFloat64);
  const auto exact = norm->forward(problem.batch(1).to(torch::kFloat64)).to(torch::kFloat32);
  EXPECT_LE(difference(joined(problem, ranks, &Outcome::outputs, 0), exact.detach()), kFloat);
}

TEST(SyncBatchNorm, NormalisesHalvesInFloat) {
  // Both round to the 8 bits of a bfloat16 once, from numbers that differ in their last bits.
  expect_one_process({.rows = {5, 3, 1}, .shape = {4, 3}, .dtype = torch::kBFloat16},
                     BatchNormOptions(4), 1.0 / 128);
}

TEST(SyncBatchNorm, TrainsANetToTheWeightsOfOneProcess) {
  const std::vector<std::vector<std::int64_t>> rows_of_update{{5, 3, 1}, {3, 3, 3}, {6, 3, 0}};
  const auto make = [] {
    const ta::SeedScope scope(3);
    torch::nn::Sequential net(torch::nn::Linear(4, 6), torch::nn::BatchNorm1d(6), torch::nn::Tanh(),
                              torch::nn::Linear(6, 5), torch::nn::BatchNorm1d(5),
                              torch::nn::Linear(5, 3));
    net->to(torch::kFloat64);
    return net;
  };
  std::vector<ta::Batch> batches;
  for (std::uint64_t update = 0; update < 20; ++update) {
    batches.push_back(tiny_batch(9, 100 + update, torch::kFloat64));
  }
  auto whole = make();
  const std::vector<torch::nn::Sequential> nets{make(), make(), make()};
  auto optimizer = sgd(whole);
  for (const auto& batch : batches) {
    optimizer.zero_grad();
    (whole->forward(batch["data"]) - batch["target"]).square().sum().div(27).backward();
    optimizer.step();
  }

  run_ranks(3, [&](std::size_t rank, const Group& group) {
    auto net = nets[rank];
    auto rank_optimizer = sgd(net);
    ASSERT_EQ(ta::convert_sync_batch_norm(*net), 2);
    ASSERT_EQ(ta::connect_sync_batch_norm(*net, group), 2);
    const auto gradients = group->communicator->duplicate();
    for (std::size_t update = 0; update < batches.size(); ++update) {
      const Problem problem{.rows = rows_of_update[update % 3], .shape = {4}};
      const auto& batch = batches[update];
      group->rows_count = problem.rows[rank] > 0;
      const auto part = [&](const torch::Tensor& tensor) {
        return group->rows_count ? problem.part(tensor, rank) : tensor.narrow(0, 0, 1);
      };
      rank_optimizer.zero_grad();
      const auto loss = (net->forward(part(batch["data"])) - part(batch["target"])).square().sum();
      (loss * (group->rows_count ? 1.0 : 0.0)).div(27).backward();
      std::vector<torch::Tensor> sums;
      for (const auto& parameter : net->parameters()) sums.push_back(parameter.grad());
      gradients->all_reduce(sums);
      rank_optimizer.step();
    }
    EXPECT_LE(relative_difference(*net, *whole), kDouble);
    for (std::size_t i = 0; i < whole->buffers().size(); ++i) {
      EXPECT_LE(difference(net->buffers()[i], whole->buffers()[i]), kDouble);
    }
  });
}

TEST(SyncBatchNorm, IsBatchNormOnOneRankAndWithoutAGroup) {
  const Problem problem{.rows = {7}, .shape = {3, 2, 2}, .dtype = torch::kFloat32};
  for (const auto& momentum : {std::optional<double>(0.2), std::optional<double>()}) {
    const auto options = BatchNormOptions(3).momentum(momentum);
    const auto plain = on_one_process(problem, options);
    ta::SyncBatchNorm without_group(options);
    const auto alone = two_steps(*without_group, problem, [](const auto& batch) { return batch; });
    const auto one_rank = on_ranks(problem, options)[0];
    for (const auto* outcome : {&alone, &one_rank}) {
      EXPECT_TRUE(outcome->outputs[1].equal(plain.outputs[1]));
      EXPECT_TRUE(outcome->input_gradients[1].equal(plain.input_gradients[1]));
      EXPECT_TRUE(outcome->buffers[0].equal(plain.buffers[0]));
      EXPECT_TRUE(outcome->buffers[1].equal(plain.buffers[1]));
    }
  }
}

}  // namespace
}  // namespace tests::sync_batch_norm_one_process_test
