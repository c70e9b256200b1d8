// SPDX-License-Identifier: Apache-2.0
// A tensor with several names is one parameter: for reduction, norm, clipping and the correction of
// a window's gradients.
#include <gmock/gmock.h>

#include <cmath>
#include <unordered_set>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::tied_parameters_ranks_test {
namespace {

/// A layer whose weight may be another layer's too.
struct SharingImpl : torch::nn::Module {
  torch::Tensor weight;  // (4, 4)
  explicit SharingImpl(const torch::Tensor& given) : weight(register_parameter("weight", given)) {}
};
TORCH_MODULE(Sharing);

/// Two layers of one weight, and a third of its own.
struct TiedImpl : torch::nn::Module {
  Sharing first{nullptr};
  Sharing second{nullptr};
  torch::nn::Linear head{nullptr};
  TiedImpl() {
    const ta::SeedScope seed(3);
    const auto weight = torch::randn({4, 4}, torch::kFloat64) * 0.5;
    first = register_module("first", Sharing(weight));
    second = register_module("second", Sharing(weight));
    head = register_module("head", torch::nn::Linear(4, 3));
    head->to(torch::kFloat64);
  }
  torch::Tensor forward(const torch::Tensor& data) {
    return head->forward(data.matmul(first->weight).tanh().matmul(second->weight).tanh());
  }
};
TORCH_MODULE(Tied);

std::vector<torch::Tensor> each_once(const torch::nn::Module& net) {
  std::vector<torch::Tensor> tensors;
  std::unordered_set<const torch::TensorImpl*> seen;
  for (const auto& tensor : net.parameters()) {
    if (seen.insert(tensor.unsafeGetTensorImpl()).second) tensors.push_back(tensor);
  }
  return tensors;
}

// The gradients of the mean loss over all of `rows`.
std::vector<torch::Tensor> gradients_by_hand(Tied net, const ta::Batch& rows) {
  const auto loss = torch::mse_loss(net->forward(rows["data"]), rows["target"]);
  return torch::autograd::grad({loss}, each_once(*net));
}

double norm_of(const std::vector<torch::Tensor>& tensors) {
  double squares = 0;
  for (const auto& tensor : tensors) squares += tensor.square().sum().item<double>();
  return std::sqrt(squares);
}

struct Ended {
  Tied net;
  double norm;  // train_gradient_norm of the last epoch
};

Ended trained(ta::Accelerator& accelerator, std::int64_t rows, ta::TrainOptions options) {
  Tied net;
  EXPECT_EQ(net->parameters().size(), 4U);
  EXPECT_EQ(each_once(*net).size(), 3U);
  torch::optim::SGD optimizer(each_once(*net), torch::optim::SGDOptions(0.1).momentum(0.9));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  const auto result = trainer.train(tiny_batch(rows, 1, torch::kFloat64), options);
  return {net, result.metrics["train_gradient_norm"]};
}

// 1e-12: what fp64 sums in another order may differ by.
TEST(TiedParameters, AreReducedClippedAndSteppedAsInOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const ta::TrainOptions options{
      .num_epochs = 3, .global_batch_size = 8, .clip_gradient_norm = 0.05};
  const auto together = trained(ranks, 61, options);
  const auto single = trained(alone, 61, options);
  EXPECT_GT(single.norm, 0.05);
  EXPECT_NEAR(together.norm, single.norm, 1e-12 * single.norm);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  EXPECT_TRUE(torch::equal(together.net->first->weight, together.net->second->weight));
}

TEST(TiedParameters, CountOnceInTheNorm) {
  ta::Accelerator ranks;
  const auto gradients = gradients_by_hand(Tied(), tiny_batch(8, 1, torch::kFloat64));
  const auto norm =
      trained(ranks, 8, {.num_epochs = 1, .global_batch_size = 8, .track_gradient_norm = true})
          .norm;
  EXPECT_GT(norm_of({gradients[0]}), 0.01 * norm);  // or twice would be the same as once
  EXPECT_NEAR(norm, norm_of(gradients), 1e-12 * norm);
}

void expect_near(const std::vector<torch::Tensor>& tensors, const std::vector<torch::Tensor>& other,
                 double factor) {
  ASSERT_EQ(tensors.size(), other.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(torch::allclose(tensors[i].grad(), other[i] * factor, 1e-12, 1e-14)) << i;
  }
}

// One window of two micro-batches whose rows weigh 3 each. The power of two next to that is 4, so
// what is expected of the window is not what it has, and its gradients are corrected at its end.
TEST(TiedParameters, AreCorrectedAndClippedOnceInALoopByHand) {
  ta::Accelerator ranks;
  Tied net;
  torch::optim::SGD optimizer(net->parameters(), 0.1);  // has the shared weight twice
  ranks.prepare(*net);
  const auto rows = tiny_batch(24, 1, torch::kFloat64);
  const auto loader = ranks.prepare(rows, {.batch_size = 12, .window = 2});
  loader->start_epoch(0);
  for (std::int64_t i = 0; i < 2; ++i) {
    const auto batch = loader->next();
    const auto count = static_cast<double>(batch->rows());
    const auto mean = torch::mse_loss(net->forward((*batch)["data"]), (*batch)["target"]);
    ranks.backward({mean * 3 * count, torch::full({}, 3 * count, torch::kFloat64)}, optimizer,
                   {.rows = batch->rows(),
                    .window_rows = loader->rows_of(0, 2),
                    .micro_batches = 2,
                    .is_last = i == 1});
  }
  ASSERT_EQ(ranks.reduce_gradients(optimizer), ta::Gradients::kReady);
  const auto expected = gradients_by_hand(Tied(), rows);
  const auto norm = norm_of(expected);
  expect_near(each_once(*net), expected, 1);
  EXPECT_NEAR(ranks.gradient_norm(optimizer).item<double>(), norm, 1e-12 * norm);
  ranks.clip_gradient_norm(optimizer, norm / 2);
  // Clipping divides by the norm and 1e-6.
  expect_near(each_once(*net), expected, norm / 2 / (norm + 1e-6));
}

}  // namespace
}  // namespace tests::tied_parameters_ranks_test
