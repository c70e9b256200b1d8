// SPDX-License-Identifier: Apache-2.0
// A run on several ranks against the same run in one process, which each rank makes by itself.
#include <gmock/gmock.h>

#include "ranks/compared_run.h"
#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::data_parallel_test {
namespace {

void expect_one_process_result(const Setting& setting, double tolerance) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto together = train(setting, ranks);
  const auto single = train(setting, alone);
  EXPECT_LE(relative_difference(*together.net, *single.net), tolerance);
  EXPECT_EQ(together.result.progress.update, single.result.progress.update);
  EXPECT_EQ(together.result.progress.skipped_updates, single.result.progress.skipped_updates);
  expect_near(together.losses, single.losses, tolerance * 10);
  ASSERT_EQ(together.result.metrics.size(), single.result.metrics.size());
  for (const auto& [name, value] : single.result.metrics) {
    if (name == "seconds" || name == "rows_per_second") continue;
    EXPECT_NEAR(together.result.metrics[name], value, tolerance * 10 * std::abs(value)) << name;
  }
}

// 1e-12: what fp64 sums in another order may differ by after 100 updates.
TEST(DataParallel, GlobalBatchesGiveTheOneProcessResult) {
  for (const std::int64_t rows : {64, 61}) {
    expect_one_process_result({.options = {.num_epochs = 13,
                                           .eval_dataset = tiny_batch(23, 5, torch::kFloat64),
                                           .global_batch_size = 8,
                                           .max_updates = 100},
                               .dataset = tiny_batch(rows, 1, torch::kFloat64)},
                              1e-12);
  }
}

TEST(DataParallel, GlobalBatchesGiveTheOneProcessResultInFloat) {
  expect_one_process_result({.options = {.num_epochs = 13, .global_batch_size = 8},
                             .dataset = tiny_batch(61),
                             .dtype = torch::kFloat32},
                            1e-5);
}

TEST(DataParallel, AccumulationGivesTheOneProcessResult) {
  for (const std::int64_t steps : {1, 2, 4, 8}) {
    expect_one_process_result({.options = {.num_epochs = 5,
                                           .global_batch_size = 16,
                                           .gradient_accumulation_steps = steps,
                                           .clip_gradient_norm = 0.5},
                               .dataset = tiny_batch(61, 1, torch::kFloat64)},
                              1e-12);
  }
}

TEST(DataParallel, ADatasetSmallerThanTheWorldWorks) {
  for (const std::int64_t rows : {1, 2}) {
    expect_one_process_result({.options = {.num_epochs = 3, .global_batch_size = 4},
                               .dataset = tiny_batch(rows, 1, torch::kFloat64)},
                              1e-12);
  }
}

// Rows weigh by a number of their own, also 0: as tokens under a mask do.
ta::Mean weighted_error(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto weight = batch["weight"];
  const auto errors = (outputs.only() - batch["target"]).square().sum(1);
  return {(errors * weight).sum(), weight.sum()};
}

TEST(DataParallel, TokenWeightedLossesGiveTheOneProcessResult) {
  for (const std::int64_t steps : {1, 3}) {
    auto rows = tiny_batch(45, 1, torch::kFloat64);
    const ta::SeedScope seed(3);
    rows.set("weight", torch::randint(0, 7, {45}, torch::kFloat64) *
                           torch::randint(0, 2, {45}, torch::kFloat64));
    expect_one_process_result(
        {.options = {.num_epochs = 4, .global_batch_size = 6, .gradient_accumulation_steps = steps},
         .dataset = rows,
         .loss = ta::LossFunction(weighted_error)},
        1e-12);
  }
}

TEST(DataParallel, AllRanksEndWithTheSameBits) {
  ta::Accelerator ranks;
  const auto ended =
      train({.options = {.num_epochs = 3, .per_device_batch_size = 3, .clip_gradient_norm = 0.1},
             .dataset = tiny_batch(61),
             .dtype = torch::kFloat32},
            ranks);
  expect_same_bits_everywhere(ranks, ended.net);
}

torch::nn::Sequential trained_with(const ta::AcceleratorOptions& options) {
  ta::Accelerator ranks(options);
  return train({.options = {.num_epochs = 3,
                            .global_batch_size = 16,
                            .gradient_accumulation_steps = 2,
                            .clip_gradient_norm = 0.1},
                .dataset = tiny_batch(61),
                .dtype = torch::kFloat32},
               ranks)
      .net;
}

// Sums add in rank order whatever the buckets and whenever they are reduced.
TEST(DataParallel, BucketsAndOverlapDoNotChangeABit) {
  const auto plain = trained_with({.overlap = ta::Overlap::kOff});
  for (const std::int64_t bucket_bytes : {1, 64, 1 << 20}) {
    for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
      const auto other = trained_with({.bucket_bytes = bucket_bytes, .overlap = overlap});
      EXPECT_TRUE(equal_bits(*other, *plain)) << bucket_bytes;
    }
  }
}

// zero_grad() between the micro-batches of a window drops what they have given, in any way of
// reducing.
TEST(DataParallel, GradientsThatComeBesideTheBucketsAreReducedToo) {
  const auto trained = [](ta::World world, ta::Overlap overlap) {
    ta::Accelerator accelerator(std::move(world), {.bucket_bytes = 64, .overlap = overlap});
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net);
    accelerator.prepare(*net);
    const auto rows = tiny_batch(24, 1, torch::kFloat64);
    const auto loader = accelerator.prepare(rows, {.batch_size = 6, .window = 2});
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      loader->start_epoch(epoch);
      for (std::int64_t i = 0; const auto batch = loader->next(); ++i) {
        const ta::WindowPosition position{.rows = batch->rows(),
                                          .window_rows = loader->rows_of(i - i % 2, 2),
                                          .micro_batches = 2,
                                          .is_last = i % 2 == 1};
        if (batch->empty()) {
          accelerator.skip_backward(optimizer, position);
        } else {
          const auto loss = torch::mse_loss(net->forward((*batch)["data"]), (*batch)["target"]);
          accelerator.backward(loss, optimizer, position);
        }
        if (position.is_last) {
          accelerator.step(optimizer);
        }
        optimizer.zero_grad();
      }
    }
    return net;
  };
  // The rows of a window's first micro-batch depend on the ranks, so ways are compared on these.
  const auto plain = trained(ta::make_world(), ta::Overlap::kOff);
  const auto overlapped = trained(ta::make_world(), ta::Overlap::kOn);
  EXPECT_TRUE(equal_bits(*overlapped, *plain));
  ta::Accelerator ranks;
  expect_same_bits_everywhere(ranks, overlapped);
}

TEST(DataParallel, EachRankDrawsRandomNumbersOfItsOwn) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  struct Drawing : ta::Callback {
    explicit Drawing(std::vector<float>& own) : drawn(&own) {}
    void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd&) override {
      drawn->push_back(torch::rand({1}).item<float>());
    }
    std::vector<float>* drawn;
  };
  const auto drawn = [&] {
    std::vector<float> numbers;
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(Drawing(numbers)),
                        &ranks);
    trainer.train(tiny_batch(32), {.num_epochs = 1, .global_batch_size = 8});
    return torch::tensor(numbers);
  };
  torch::manual_seed(ranks.rank());
  const auto first = drawn();
  torch::manual_seed(99);
  const auto second = drawn();  // keyed by (seed, update, rank), whatever the program has drawn
  EXPECT_TRUE(torch::equal(first, second));
  const auto all = ranks.gather(first.unsqueeze(0));
  EXPECT_FALSE(torch::equal(all[0], all[1]));
  EXPECT_NE(first[0].item<float>(), first[1].item<float>());
}

/// A net of which one branch is used on some rows only.
struct BranchedImpl : torch::nn::Module {
  torch::nn::Linear first{nullptr};
  torch::nn::Linear second{nullptr};
  torch::nn::Linear never{nullptr};
  BranchedImpl() {
    const ta::SeedScope seed(3);
    first = register_module("first", torch::nn::Linear(4, 3));
    second = register_module("second", torch::nn::Linear(4, 3));
    never = register_module("never", torch::nn::Linear(4, 3));
    to(torch::kFloat64);
  }
  torch::Tensor forward(const torch::Tensor& data) {
    const auto output = first->forward(data);
    const bool uses_second = (data.select(1, 0) > 1).any().item<bool>();
    return uses_second ? output + second->forward(data) * (data.narrow(1, 0, 1) > 1) : output;
  }
};
TORCH_MODULE(Branched);

Branched trained_branched(const ta::AcceleratorOptions& options, ta::World world) {
  ta::Accelerator accelerator(std::move(world), options);
  Branched net;
  torch::optim::AdamW optimizer(net->parameters(), 0.01);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  trainer.train(tiny_batch(60, 1, torch::kFloat64), {.num_epochs = 3, .global_batch_size = 6});
  return net;
}

TEST(DataParallel, ParametersWithoutAGradientAreThoseOfOneProcess) {
  const auto single = trained_branched({}, ta::make_single_world());
  for (const auto overlap : {ta::Overlap::kOff, ta::Overlap::kOn}) {
    const auto together =
        trained_branched({.bucket_bytes = 64, .overlap = overlap}, ta::make_world());
    EXPECT_LE(relative_difference(*together, *single), 1e-11);
    // No rank ever reaches it: AdamW would move it by a gradient of zero.
    EXPECT_TRUE(torch::equal(together->never->weight, Branched()->never->weight));
  }
}

TEST(DataParallel, AParameterUsedOnSomeRanksIsNamedWhereAsked) {
  const ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  const auto text = message_of<ta::ArgumentError>([] {
    trained_branched({.unused_parameters = ta::UnusedParameters::kError}, ta::make_world());
  });
  EXPECT_THAT(text, testing::HasSubstr("parameter 'second."));
}

TEST(DataParallel, FreezingAParameterDuringARunRebuildsTheBuckets) {
  const auto trained = [](ta::World world) {
    ta::Accelerator accelerator(std::move(world));
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
      if (event.updates == 3) net->parameters()[0].requires_grad_(false);
      if (event.updates == 6) net->parameters()[0].requires_grad_(true);
    }));
    trainer.train(tiny_batch(40, 1, torch::kFloat64), {.num_epochs = 2, .global_batch_size = 8});
    return net;
  };
  const auto together = trained(ta::make_world());
  const auto single = trained(ta::make_single_world());
  EXPECT_LE(relative_difference(*together, *single), 1e-12);
}

TEST(DataParallel, OneUpdateIsTheBucketsAndTheWord) {
  ta::Accelerator ranks;
  const auto before = ranks.gradient_reductions();
  std::vector<std::int64_t> control;
  class ControlOperations : public ta::Callback {
   public:
    explicit ControlOperations(std::vector<std::int64_t>& counts) : counts_(&counts) {}
    void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd&) override {
      counts_->push_back(trainer.accelerator().communicator().operations());
    }

   private:
    std::vector<std::int64_t>* counts_;
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ControlOperations(control)), &ranks);
  trainer.train(tiny_batch(64),
                {.num_epochs = 1, .global_batch_size = 8, .gradient_accumulation_steps = 2});
  // From the second micro-batch on, nothing but gradients goes between ranks in an epoch.
  EXPECT_THAT(control, testing::Each(control.front()));
  const auto made = ranks.world_size() > 1 ? 2 : 0;
  EXPECT_EQ(ranks.gradient_reductions() - before, (ranks.world_size() > 1 ? 8 : 0) + made);
}

TEST(DataParallel, BuffersAreUsedAgainInTheNextRun) {
  ta::Accelerator ranks;
  const Setting setting{.options = {.num_epochs = 2, .global_batch_size = 8},
                        .dataset = tiny_batch(61),
                        .dtype = torch::kFloat32};
  const std::int64_t updates = ranks.world_size() > 1 ? 2 * 8 : 0;
  train(setting, ranks);
  const auto before = ranks.gradient_reductions();
  train(setting, ranks);
  EXPECT_EQ(ranks.gradient_reductions() - before, updates);  // none that makes memory
}

}  // namespace
}  // namespace tests::data_parallel_test
