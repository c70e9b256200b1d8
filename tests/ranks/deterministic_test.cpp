// SPDX-License-Identifier: Apache-2.0
// Deterministic runs: the same bits on any number of ranks.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::deterministic_test {
namespace {

struct Ended {
  torch::nn::Sequential net;
  ta::RunResult result;
};

torch::nn::Sequential dropout_net() {
  const ta::SeedScope scope(7);
  return torch::nn::Sequential(torch::nn::Linear(4, 17), torch::nn::ReLU(), torch::nn::Dropout(0.3),
                               torch::nn::LayerNorm(torch::nn::LayerNormOptions({17})),
                               torch::nn::Linear(17, 3));
}

Ended train(ta::Accelerator& accelerator, std::int64_t shards) {
  Ended ended{dropout_net(), {}};
  torch::optim::AdamW optimizer(ended.net->parameters(), 0.01);
  ta::Trainer trainer(ended.net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  // 61 rows in batches of 16: shards of 4 rows, and at the end of 4, 3, 3 and 3.
  ended.result = trainer.train(tiny_batch(61), {.num_epochs = 5,
                                                .eval_dataset = tiny_batch(23, 3),
                                                .global_batch_size = 16,
                                                .eval_per_device_batch_size = 2,
                                                .clip_gradient_norm = 0.3,
                                                .deterministic_shards = shards});
  return ended;
}

bool is_power_of_two(int ranks) { return (ranks & (ranks - 1)) == 0; }

TEST(Deterministic, AnyNumberOfRanksEndsWithTheBitsOfOne) {
  ta::Accelerator ranks;
  if (!is_power_of_two(ranks.world_size())) return;
  ta::Accelerator alone(ta::make_single_world());
  for (const std::int64_t shards : {4, 8}) {
    const auto together = train(ranks, shards);
    const auto single = train(alone, shards);
    EXPECT_TRUE(equal_bits(*together.net, *single.net)) << shards;
    for (const auto& [name, value] : single.result.metrics) {
      if (name == "seconds" || name == "rows_per_second") continue;
      EXPECT_EQ(together.result.metrics[name], value) << name;
    }
  }
}

TEST(Deterministic, DropoutDrawsOtherNumbersInEachShardAndUpdate) {
  ta::Accelerator alone(ta::make_single_world());
  const auto four = train(alone, 4);
  const auto eight = train(alone, 8);
  EXPECT_FALSE(equal_bits(*four.net, *eight.net));
}

TEST(Deterministic, GivesTheCallersGeneratorAndThreadsBack) {
  ta::Accelerator ranks;
  if (!is_power_of_two(ranks.world_size())) return;
  torch::manual_seed(11);
  const auto expected = torch::rand({3});
  torch::manual_seed(11);
  const int threads = at::get_num_threads();
  train(ranks, 4);
  EXPECT_TRUE(torch::equal(torch::rand({3}), expected));
  EXPECT_EQ(at::get_num_threads(), threads);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

std::string refusal(const torch::nn::Sequential& net, ta::TrainOptions options) {
  ta::Accelerator ranks;
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  options.num_epochs = 1;
  return message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(16), options); });
}

TEST(Deterministic, RefusesWhatItCanNotDo) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal(tiny_net(), {.deterministic_shards = 12}),
              HasSubstr("deterministic_shards must be a power of two up to 65536, got 12"));
  EXPECT_THAT(refusal(tiny_net(), {.gradient_accumulation_steps = 2, .deterministic_shards = 4}),
              HasSubstr("gradient_accumulation_steps is 2"));
  const ta::Accelerator ranks;
  if (ranks.world_size() == 3) {
    EXPECT_THAT(refusal(tiny_net(), {.deterministic_shards = 4}), HasSubstr("among 3 ranks"));
  }
  torch::nn::Sequential with_norm(torch::nn::Linear(4, 3), torch::nn::BatchNorm1d(3));
  EXPECT_THAT(refusal(with_norm, {.deterministic_shards = 4}),
              testing::AllOf(HasSubstr("'1'"), HasSubstr("BatchNorm1d"), HasSubstr("GroupNorm")));
}

TEST(Deterministic, RefusesStatisticsAndLoadersThatItCanNotCut) {
  using testing::HasSubstr;
  torch::nn::Sequential with_statistics(
      torch::nn::InstanceNorm1d(torch::nn::InstanceNorm1dOptions(4).track_running_stats(true)));
  with_statistics->push_back(torch::nn::Linear(4, 3));
  EXPECT_THAT(refusal(with_statistics, {.deterministic_shards = 4}), HasSubstr("InstanceNorm1d"));

  class OwnLoader : public ta::Trainer {
   public:
    using Trainer::Trainer;

   protected:
    std::unique_ptr<ta::BatchSource> create_train_dataloader(
        ta::Dataset dataset, const ta::DataLoaderOptions&) override {
      return std::make_unique<ta::DataLoader>(dataset, ta::DataLoaderOptions{.is_shared = false});
    }
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Accelerator ranks;
  if (!is_power_of_two(ranks.world_size())) return;
  OwnLoader trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                trainer.train(tiny_batch(16), {.num_epochs = 1, .deterministic_shards = 4});
              }),
              HasSubstr("create_train_dataloader returned a source of its own"));
}

TEST(Deterministic, TellsWhatElseTheBitsDependOn) {
  ta::Accelerator alone(ta::make_single_world());
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &alone);
  trainer.train(tiny_batch(8), {.num_epochs = 1, .deterministic_shards = 2});
  EXPECT_THAT(trainer.run_config().arithmetic,
              testing::AllOf(testing::HasSubstr("1 thread, "), testing::Not("1 thread, ")));
  EXPECT_EQ(trainer.run_config().deterministic_shards, 2);
}

}  // namespace
}  // namespace tests::deterministic_test
