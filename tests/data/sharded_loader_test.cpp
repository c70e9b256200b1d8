// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run read, put together, against what one process reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "data/batch_digest.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated::sharded_loader_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::numbered_rows;
using testing::numbers;
using testing::rest_of;
using Indices = std::vector<std::int64_t>;

Indices rows_of(const Batch& batch) { return batch.empty() ? Indices() : numbers(batch["target"]); }

// [update][rank]: the samples that each rank reads for each update.
using Updates = std::vector<std::vector<Indices>>;

Updates updates_of(DataLoaderOptions options, std::int64_t samples, int world_size) {
  const std::int64_t window = options.shards > 0 ? options.shards / world_size : options.window;
  Updates updates;
  std::vector<std::int64_t> sizes;
  for (int rank = 0; rank < world_size; ++rank) {
    options.rank = rank;
    options.world_size = world_size;
    DataLoader loader(numbered_rows(samples), options);
    sizes.push_back(*loader.size());
    std::int64_t batches = 0;
    for (; const auto batch = loader.next(); ++batches) {
      const auto update = static_cast<std::size_t>(batches / window);
      if (update == updates.size()) updates.emplace_back(world_size);
      auto& mine = updates[update][static_cast<std::size_t>(rank)];
      const auto rows = rows_of(*batch);
      mine.insert(mine.end(), rows.begin(), rows.end());
    }
    EXPECT_EQ(batches, *loader.size());
  }
  EXPECT_THAT(sizes, ::testing::Each(sizes.front()));
  return updates;
}

Indices joined(const std::vector<Indices>& parts) {
  Indices all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

void expect_even(const std::vector<Indices>& parts) {
  const auto by_size = [](const Indices& a, const Indices& b) { return a.size() < b.size(); };
  const auto [least, most] = std::minmax_element(parts.begin(), parts.end(), by_size);
  EXPECT_LE(most->size() - least->size(), 1U);
}

TEST(ShardedLoader, RanksReadTogetherWhatOneProcessReads) {
  for (const std::int64_t samples : {1, 7, 32, 45, 100}) {
    for (const std::int64_t window : {1, 2, 3}) {
      for (const bool drop_last : {false, true}) {
        const DataLoaderOptions options{
            .batch_size = 8, .shuffle = true, .drop_last = drop_last, .seed = 3, .window = window};
        if (drop_last && samples < 8) continue;
        const auto alone = updates_of(options, samples, 1);
        for (const int world_size : {2, 3, 4, 5}) {
          const auto together = updates_of(options, samples, world_size);
          ASSERT_EQ(together.size(), alone.size());
          for (std::size_t i = 0; i < alone.size(); ++i) {
            EXPECT_EQ(joined(together[i]), joined(alone[i]))
                << samples << " samples, " << window << " batches, " << world_size;
            expect_even(together[i]);
          }
        }
      }
    }
  }
}

TEST(ShardedLoader, LimitsLeaveTheRowsIndependentOfTheRanks) {
  const DataLoaderOptions options{
      .batch_size = 6, .shuffle = true, .limit_batches = 5, .window = 2};
  const auto alone = updates_of(options, 100, 1);
  ASSERT_EQ(alone.size(), 3U);
  for (const int world_size : {2, 3, 4}) {
    const auto together = updates_of(options, 100, world_size);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(joined(together[i]), joined(alone[i]));
    }
  }
}

TEST(ShardedLoader, AShardHasTheSameRowsOnAnyNumberOfRanks) {
  DataLoaderOptions options{.batch_size = 10, .shuffle = true, .seed = 5, .shards = 4};
  std::vector<Indices> alone;
  DataLoader loader(numbered_rows(33), options);
  EXPECT_EQ(loader.size(), 16);
  while (const auto batch = loader.next()) alone.push_back(rows_of(*batch));
  EXPECT_EQ(alone[0].size(), 3U);
  EXPECT_EQ(alone[3].size(), 2U);
  EXPECT_EQ(alone[15].size(), 0U);  // 3 rows are left for the last update's 4 shards

  for (const int world_size : {2, 4}) {
    const auto each = static_cast<std::size_t>(4 / world_size);
    for (int rank = 0; rank < world_size; ++rank) {
      options.rank = rank;
      options.world_size = world_size;
      DataLoader part(numbered_rows(33), options);
      for (std::size_t i = 0; const auto batch = part.next(); ++i) {
        const auto shard = static_cast<std::size_t>(rank) * each + i % each;
        EXPECT_EQ(rows_of(*batch), alone[i / each * 4 + shard]);
      }
      EXPECT_EQ(part.rows_of(0, static_cast<std::int64_t>(each)), 10);
      EXPECT_EQ(part.rows_of(static_cast<std::int64_t>(3 * each), static_cast<std::int64_t>(each)),
                3);
    }
  }
}

TEST(ShardedLoader, APartWithoutRowsIsAnEmptyBatch) {
  DataLoader loader(numbered_rows(2), {.batch_size = 4, .rank = 2, .world_size = 3});
  EXPECT_EQ(loader.size(), 1);
  const auto batch = loader.next();
  ASSERT_TRUE(batch.has_value());
  EXPECT_TRUE(batch->empty());
  EXPECT_EQ(batch->rows(), 0);
  EXPECT_EQ(loader.rows_of(0, 1), 2);
  EXPECT_FALSE(loader.next().has_value());
}

TEST(ShardedLoader, GivesTheSameBatchesForAnyNumberOfWorkers) {
  for (const bool shuffle : {false, true}) {
    for (int rank = 0; rank < 3; ++rank) {
      std::vector<std::vector<std::uint64_t>> digests;
      for (const int workers : {0, 1, 8}) {
        DataLoader loader(numbered_rows(50), {.batch_size = 7,
                                              .shuffle = shuffle,
                                              .num_workers = workers,
                                              .seed = 2,
                                              .rank = rank,
                                              .world_size = 3,
                                              .window = 2});
        loader.start_epoch(1);
        digests.push_back(rest_of(loader));
      }
      EXPECT_EQ(digests[1], digests[0]);
      EXPECT_EQ(digests[2], digests[0]);
    }
  }
}

TEST(ShardedLoader, RefusesRanksAndShardsThatDoNotFit) {
  const auto text = [](const DataLoaderOptions& options) {
    try {
      DataLoader(numbered_rows(4), options);
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(text({.rank = 2, .world_size = 2}), HasSubstr("rank must be in [0, 2), got 2"));
  EXPECT_THAT(text({.rank = -1, .world_size = 2, .window = 0}),
              AllOf(HasSubstr("got -1"), HasSubstr("window must be >= 1")));
  EXPECT_THAT(text({.world_size = 0}), HasSubstr("world_size must be >= 1, got 0"));
  EXPECT_THAT(text({.world_size = 2, .shards = 3}), HasSubstr("multiple of the 2 ranks, got 3"));
}

}  // namespace
}  // namespace torch_accelerated::sharded_loader_test
