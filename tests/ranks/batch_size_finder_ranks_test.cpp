// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/batch_size_finder.h"

#include <gmock/gmock.h>

#include <new>

#include "ranks/same_bits.h"
#include "support/tiny.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace tests::batch_size_finder_ranks_test {
namespace {

// What each rank found, and the trials of all of them.
void expect_same_everywhere(ta::Accelerator& ranks, const ta::BatchSizeFinderResult& found) {
  std::vector<std::int64_t> numbers{found.per_device_batch_size};
  for (const auto& trial : found.trials) numbers.push_back(trial.fits ? trial.rows : -trial.rows);
  const auto all = ranks.gather_objects(testing::PrintToString(numbers));
  EXPECT_THAT(all, testing::Each(all.front()));
}

/// A loss that has memory for `most` rows on the last rank, and for any number on others.
template <class Throw>
ta::LossFunction loss_for(const ta::Accelerator& ranks, std::int64_t most, Throw out_of_memory) {
  const bool is_last = ranks.rank() == ranks.world_size() - 1;
  return [=](const torch::Tensor& output, const torch::Tensor& target) {
    if (is_last && output.size(0) > most) out_of_memory();
    return torch::mse_loss(output, target);
  };
}

// SyncBatchNorm meets other ranks in each forward: in a trial, none would come.
TEST(BatchSizeFinderRanks, OneRankWithoutMemoryDecidesForAll) {
  ta::Accelerator ranks;
  torch::nn::Sequential net(torch::nn::Linear(4, 5), ta::SyncBatchNorm(5), torch::nn::Linear(5, 3));
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, loss_for(ranks, 5, [] { throw std::bad_alloc(); }), optimizer,
                      ta::CallbackList(), &ranks);
  const ta::Dataset data = tiny_batch(256);
  const auto train = [&] {
    trainer.train(data, {.num_epochs = 1, .per_device_batch_size = 4});
    expect_same_bits_everywhere(ranks, net);
  };
  train();
  const auto before = net->parameters()[0].detach().clone();
  for (const std::int64_t initial : {2, 16}) {
    const auto found = ta::find_batch_size(trainer, data, {.initial = initial});
    EXPECT_EQ(found.per_device_batch_size, 4);
    expect_same_everywhere(ranks, found);
  }
  EXPECT_TRUE(torch::equal(before, net->parameters()[0]));
  EXPECT_EQ(trainer.run_config().world_size, ranks.world_size());
  train();
}

TEST(BatchSizeFinderRanks, NotEvenOneRowOnOneRankIsAnErrorOnAll) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, loss_for(ranks, 0, [] { throw std::bad_alloc(); }), optimizer,
                      ta::CallbackList(), &ranks);
  try {
    ta::find_batch_size(trainer, tiny_batch(64));
    FAIL() << "nothing was thrown";
  } catch (const ta::Error& error) {
    EXPECT_EQ(error.exit_code(), ta::ExitCode::kOutOfMemory);
    EXPECT_TRUE(error.is_on_all_ranks());
    EXPECT_THAT(error.what(), testing::HasSubstr("not even one row fits"));
  }
}

// Also where the error says that all ranks have it: in a trial that means this one.
TEST(BatchSizeFinderRanks, AnotherErrorOnOneRankReachesAll) {
  ta::Accelerator ranks;
  for (const bool is_flagged : {false, true}) {
    auto net = tiny_net();
    auto optimizer = sgd(net);
    const auto fail = [is_flagged] {
      ta::NumericError error("no such number");
      if (is_flagged) error.set_on_all_ranks();
      throw error;
    };
    ta::Trainer trainer(net, loss_for(ranks, 8, fail), optimizer, ta::CallbackList(), &ranks);
    EXPECT_THAT(message_of<ta::Error>([&] { ta::find_batch_size(trainer, tiny_batch(256)); }),
                testing::HasSubstr("no such number"));
  }
}

// The longest counts; the others try as many rows as they have, the first one none.
TEST(BatchSizeFinderRanks, RanksMayHaveRowsOfTheirOwn) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const bool is_alone = ranks.world_size() == 1;
  const auto rows = is_alone ? 32 : 32 * ranks.rank() / (ranks.world_size() - 1);
  const auto found = ta::find_batch_size(trainer, rows == 0 ? ta::Dataset() : tiny_batch(rows),
                                         {.train = {.rows = ta::Rows::kPerRank}});
  EXPECT_EQ(found.per_device_batch_size, 32);
  expect_same_everywhere(ranks, found);
}

// Of a dataset that all share, a rank gets no more than its part.
TEST(BatchSizeFinderRanks, TriesNoMoreRowsThanARankGets) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const auto found =
      ta::find_batch_size(trainer, tiny_batch(8 * ranks.world_size()), {.initial = 2});
  EXPECT_EQ(found.per_device_batch_size, 8);
  EXPECT_EQ(found.trials.size(), 3U);
}

}  // namespace
}  // namespace tests::batch_size_finder_ranks_test
