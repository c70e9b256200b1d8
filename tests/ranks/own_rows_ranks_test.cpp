// SPDX-License-Identifier: Apache-2.0
// Ranks that bring rows of their own, any number of them.
#include <gmock/gmock.h>

#include "ranks/compared_run.h"
#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::own_rows_ranks_test {
namespace {

// Each rank has rows of its own; one process has them all, weighted alike.
TEST(OwnRows, WeighExactly) {
  ta::Accelerator ranks;
  const int size = ranks.world_size();
  const std::vector<std::int64_t> lengths{7, 5, 0, 3};
  const auto all = tiny_batch(15, 1, torch::kFloat64);
  std::int64_t first = 0;
  for (int rank = 0; rank < ranks.rank(); ++rank) first += lengths[static_cast<std::size_t>(rank)];
  const auto mine = lengths[static_cast<std::size_t>(ranks.rank())];
  std::int64_t total = 0;
  for (int rank = 0; rank < size; ++rank) total += lengths[static_cast<std::size_t>(rank)];
  const auto slice = [&](std::int64_t begin, std::int64_t count) {
    return ta::Batch{{"data", all["data"].narrow(0, begin, count)},
                     {"target", all["target"].narrow(0, begin, count)}};
  };
  // One update an epoch: its rows are all ranks' rows.
  const auto together = train({.options = {.num_epochs = 6,
                                           .per_device_batch_size = 2,
                                           .gradient_accumulation_steps = 4,
                                           .rows = ta::Rows::kPerRank},
                               .dataset = slice(first, mine)},
                              ranks);
  ta::Accelerator alone(ta::make_single_world());
  const auto single =
      train({.options = {.num_epochs = 6, .global_batch_size = total}, .dataset = slice(0, total)},
            alone);
  EXPECT_EQ(together.result.progress.update, 6);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
}

// The first rank or the last brings nothing: no dataset at all, or one without rows.
TEST(OwnRows, ARankWithoutRowsOfItsOwnTakesPart) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const std::int64_t size = ranks.world_size();
  if (size == 1) return;
  const auto all = tiny_batch(5 * (size - 1), 1, torch::kFloat64);
  const auto slice = [&](std::int64_t begin, std::int64_t count) {
    return ta::Batch{{"data", all["data"].narrow(0, begin, count)},
                     {"target", all["target"].narrow(0, begin, count)}};
  };
  const auto single = train(
      {.options = {.num_epochs = 6, .global_batch_size = 5 * (size - 1)}, .dataset = all}, alone);
  for (const std::int64_t empty : {std::int64_t{0}, size - 1}) {
    for (const bool has_dataset : {false, true}) {
      const std::int64_t place = ranks.rank() - (ranks.rank() > empty ? 1 : 0);
      ta::Dataset mine;
      if (ranks.rank() != empty) {
        mine = slice(5 * place, 5);
      } else if (has_dataset) {
        mine = slice(0, 0);
      }
      const auto together = train({.options = {.num_epochs = 6,
                                               .per_device_batch_size = 2,
                                               .gradient_accumulation_steps = 3,
                                               .rows = ta::Rows::kPerRank},
                                   .dataset = mine},
                                  ranks);
      EXPECT_EQ(together.result.progress.update, 6);
      EXPECT_EQ(together.result.progress.skipped_updates, 0);
      EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12) << empty << has_dataset;
      expect_near(together.losses, single.losses, 1e-11);
      expect_same_bits_everywhere(ranks, together.net);
    }
  }
}

/// Batches of 2 rows, `count` of them; tells its length or not.
class Stream : public ta::BatchSource {
 public:
  Stream(std::int64_t count, bool sized) : count_(count), sized_(sized) {}
  std::optional<ta::Batch> next() override {
    if (given_ == count_) return std::nullopt;
    return tiny_batch(2, static_cast<std::uint64_t>(++given_), torch::kFloat64);
  }
  std::optional<std::int64_t> size() const override {
    return sized_ ? std::optional(count_) : std::nullopt;
  }
  void start_epoch(std::int64_t) override { given_ = 0; }

 private:
  std::int64_t count_;
  bool sized_;
  std::int64_t given_ = 0;
};

TEST(OwnRows, StreamsOfAnyLengthPerRankEndTogether) {
  for (const bool sized : {true, false}) {
    for (const std::int64_t steps : {1, 3}) {
      ta::Accelerator ranks;
      auto net = tiny_net(7, torch::kFloat64);
      auto optimizer = sgd(net);
      ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
      const std::vector<std::int64_t> lengths{4, 7, 1, 5};
      Stream stream(lengths[static_cast<std::size_t>(ranks.rank())], sized);
      const auto result =
          trainer.train(stream, {.num_epochs = 2, .gradient_accumulation_steps = steps});
      std::int64_t longest = 0;
      for (int rank = 0; rank < ranks.world_size(); ++rank) {
        longest = std::max(longest, lengths[static_cast<std::size_t>(rank)]);
      }
      EXPECT_EQ(result.progress.update, 2 * ((longest + steps - 1) / steps)) << sized << steps;
    }
  }
}

}  // namespace
}  // namespace tests::own_rows_ranks_test
