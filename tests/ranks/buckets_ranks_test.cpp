// SPDX-License-Identifier: Apache-2.0
// What goes between ranks in an update, and parameters that buckets have to bear.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::buckets_ranks_test {
namespace {

/// Operations between ranks up to the end of each micro-batch.
struct Operations {
  std::vector<std::int64_t> gradients;
  std::vector<std::int64_t> others;
};

class CountOperations : public ta::Callback {
 public:
  explicit CountOperations(Operations& counts) : counts_(&counts) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd&) override {
    counts_->gradients.push_back(trainer.accelerator().gradient_reductions());
    counts_->others.push_back(trainer.accelerator().communicator().operations());
  }

 private:
  Operations* counts_;
};

// Of 4-5-3, any two parameters together are larger than 64 bytes: there are four buckets. The word
// rides behind the last; without overlap all go in one submission.
TEST(Buckets, AnUpdateIsItsBucketsWithTheWordAndNothingElse) {
  for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
    ta::Accelerator ranks({.bucket_bytes = 64, .overlap = overlap});
    const bool alone = ranks.world_size() == 1;
    const std::int64_t of_update = alone ? 0 : (overlap == ta::Overlap::kOn ? 4 : 1);
    Operations counts;
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(CountOperations(counts)), &ranks);
    trainer.train(tiny_batch(64),
                  {.num_epochs = 1, .global_batch_size = 8, .gradient_accumulation_steps = 2});
    ASSERT_EQ(counts.gradients.size(), 16U);
    // The first update makes the buckets and agrees on their order.
    for (std::size_t i = 2; i < counts.gradients.size(); ++i) {
      const bool ends_update = i % 2 == 1;
      EXPECT_EQ(counts.gradients[i] - counts.gradients[i - 1], ends_update ? of_update : 0) << i;
    }
    EXPECT_THAT(counts.others, testing::Each(counts.others.front()));
  }
}

void update(ta::Accelerator& ranks, torch::nn::Sequential net, torch::optim::Optimizer& optimizer) {
  const auto batch = tiny_batch(4);
  ranks.backward(torch::mse_loss(net->forward(batch["data"]), batch["target"]), optimizer,
                 {.rows = 4});
  ranks.step(optimizer);
  optimizer.zero_grad();
}

// What a run that goes on has begun with stays, though gradients come in another order.
TEST(Buckets, TheirOrderIsPartOfTheRunsState) {
  const ta::AcceleratorOptions options{.bucket_bytes = 64, .overlap = ta::Overlap::kOn};
  ta::Accelerator first(options);
  auto net = tiny_net();
  auto optimizer = sgd(net);
  EXPECT_FALSE(first.window_state(optimizer).contains("bucket_order"));
  update(first, net, optimizer);
  auto state = first.window_state(optimizer);
  EXPECT_EQ(state.contains("bucket_order"), first.world_size() > 1);
  if (first.world_size() == 1) return;
  const auto found = state.get<std::vector<double>>("bucket_order");
  EXPECT_THAT(found, testing::UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_GE(found.front(), 2);  // the last layer's gradients come first

  const std::vector<double> other = {1, 3, 0, 2};
  state.set("bucket_order", other);
  ta::Accelerator again(options);
  again.load_window_state(optimizer, state);
  EXPECT_EQ(again.window_state(optimizer).get<std::vector<double>>("bucket_order"), other);
  update(again, net, optimizer);
  EXPECT_EQ(again.window_state(optimizer).get<std::vector<double>>("bucket_order"), other);

  state.set("bucket_order", std::vector<double>{0, 4, 1, 2});
  EXPECT_THAT(message_of<ta::StateError>([&] { again.load_window_state(optimizer, state); }),
              testing::HasSubstr("bucket_order has 4, expected numbers from 0 to 3"));
}

/// A layer between parameters without elements.
struct HollowImpl : torch::nn::Module {
  torch::Tensor front, middle, back;
  torch::nn::Linear first{nullptr}, second{nullptr};
  HollowImpl() {
    const ta::SeedScope seed(3);
    const auto none = [&](const char* name, std::vector<std::int64_t> shape) {
      return register_parameter(name, torch::zeros(shape, torch::kFloat64));
    };
    front = none("front", {0, 3});
    first = register_module("first", torch::nn::Linear(4, 5));
    middle = none("middle", {2, 0});
    second = register_module("second", torch::nn::Linear(5, 3));
    back = none("back", {0});
    to(torch::kFloat64);
  }
  std::vector<torch::Tensor> all() const {
    return {front, first->weight, first->bias, middle, second->weight, second->bias, back};
  }
  torch::Tensor forward(const torch::Tensor& data) {
    const auto nothing = front.sum() + middle.sum() + back.sum();
    return second->forward(first->forward(data).tanh()) + nothing;
  }
};
TORCH_MODULE(Hollow);

Hollow trained(ta::World world, const ta::AcceleratorOptions& options) {
  ta::Accelerator accelerator(std::move(world), options);
  Hollow net;
  // In this order, one without elements has a bucket of its own, where buckets are small.
  torch::optim::SGD optimizer(net->all(), torch::optim::SGDOptions(0.1).momentum(0.9));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  const auto result =
      trainer.train(tiny_batch(24, 1, torch::kFloat64),
                    {.num_epochs = 3, .global_batch_size = 12, .clip_gradient_norm = 0.1});
  EXPECT_EQ(result.progress.update, 6);
  return net;
}

TEST(Buckets, ParametersWithoutElementsAreReducedWithTheOthers) {
  const auto single = trained(ta::make_single_world(), {});
  for (const std::int64_t bytes : {1, 64, 1 << 20}) {
    for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
      const auto together =
          trained(ta::make_world(), {.bucket_bytes = bytes,
                                     .overlap = overlap,
                                     .unused_parameters = ta::UnusedParameters::kError});
      EXPECT_LE(relative_difference(*together->first, *single->first), 1e-12) << bytes;
      EXPECT_LE(relative_difference(*together->second, *single->second), 1e-12) << bytes;
    }
  }
}

}  // namespace
}  // namespace tests::buckets_ranks_test
