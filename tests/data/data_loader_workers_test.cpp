// SPDX-License-Identifier: Apache-2.0
// How far ahead a loader's workers read, at the same time and in order.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "data/batch_digest.h"
#include "torch_accelerated/data/data_loader.h"
#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated::data_loader_workers_test {
namespace {

using ::testing::ElementsAre;
using testing::numbered_rows;
using testing::order_of;
using Indices = std::vector<std::int64_t>;

/// What a test wants to know about the reads, whichever thread does them.
struct Watched {
  struct Log {
    std::atomic<int> begun{0};
    std::atomic<int> now{0};
    std::atomic<int> most_now{0};
    std::atomic<int> microseconds{0};
    std::mutex mutex;
    std::set<std::thread::id> threads;
  };
  std::shared_ptr<Log> log = std::make_shared<Log>();

  std::int64_t size() const { return 100; }
  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext&) const {
    ++log->begun;
    const int now = ++log->now;
    int most = log->most_now;
    while (most < now && !log->most_now.compare_exchange_weak(most, now)) {
    }
    {
      const std::lock_guard lock(log->mutex);
      log->threads.insert(std::this_thread::get_id());
    }
    EXPECT_EQ(torch::get_num_threads(), 1);
    std::this_thread::sleep_for(std::chrono::microseconds(log->microseconds));
    --log->now;
    return {{"target", torch::tensor(at::ArrayRef(indices.data(), indices.size()))}};
  }
};

TEST(DataLoaderWorkers, ReadsNoFurtherAheadThanAllowed) {
  const Watched dataset;
  DataLoader loader(dataset, {.batch_size = 1, .num_workers = 3, .prefetch_batches = 2});
  for (int got = 1; got <= 100; ++got) {
    ASSERT_TRUE(loader.next());
    if (got % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_LE(dataset.log->begun, got + 3 * 2);
  }
  EXPECT_FALSE(loader.next());
  EXPECT_EQ(dataset.log->begun, 100);
}

TEST(DataLoaderWorkers, WorkersReadAsFarAheadAsAllowed) {
  const Watched dataset;
  DataLoader loader(dataset, {.batch_size = 1, .num_workers = 3, .prefetch_batches = 2});
  loader.next();
  for (int wait = 0; wait < 5000 && dataset.log->begun < 7; ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(dataset.log->begun, 1 + 3 * 2);
}

TEST(DataLoaderWorkers, WorkersReadAtTheSameTime) {
  const Watched dataset;
  dataset.log->microseconds = 2000;
  DataLoader loader(dataset, {.batch_size = 10, .num_workers = 4});
  EXPECT_EQ(order_of(loader).size(), 100U);
  EXPECT_GE(dataset.log->most_now, 2);
  EXPECT_LE(dataset.log->most_now, 4);
  EXPECT_EQ(dataset.log->threads.count(std::this_thread::get_id()), 0U);
}

TEST(DataLoaderWorkers, WithoutWorkersTheCallerReadsWhenItAsks) {
  const Watched dataset;
  DataLoader loader(dataset, {.batch_size = 10});
  EXPECT_EQ(dataset.log->begun, 0);
  for (int got = 1; got <= 10; ++got) {
    loader.next();
    EXPECT_EQ(dataset.log->begun, got);
  }
  EXPECT_THAT(dataset.log->threads, ElementsAre(std::this_thread::get_id()));
}

TEST(DataLoaderWorkers, OrderHoldsForSlowReadersAndSlowCallers) {
  const Watched dataset;
  Indices expected(100);
  for (std::int64_t i = 0; i < 100; ++i) expected[static_cast<std::size_t>(i)] = i;
  for (const auto& [read_us, caller_us] : {std::pair{300, 0}, std::pair{0, 300}}) {
    dataset.log->microseconds = read_us;
    DataLoader loader(dataset, {.batch_size = 1, .num_workers = 5, .prefetch_batches = 1});
    Indices order;
    while (const auto batch = loader.next()) {
      order.push_back((*batch)["target"].item<std::int64_t>());
      std::this_thread::sleep_for(std::chrono::microseconds(caller_us));
    }
    EXPECT_EQ(order, expected);
  }
}

TEST(DataLoaderWorkers, EndsAndStartsAnewInTheMiddleOfAnEpoch) {
  const Watched dataset;
  dataset.log->microseconds = 200;
  for (int got = 0; got < 20; ++got) {
    DataLoader loader(dataset, {.batch_size = 5, .shuffle = true, .num_workers = 4});
    for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
      loader.start_epoch(epoch);
      const KeyedPermutation permutation(100, 0, epoch);
      for (int batch = 0; batch < got; ++batch) {
        const auto first = (*loader.next())["target"][0].item<std::int64_t>();
        ASSERT_EQ(first, permutation(batch * 5)) << "a batch of an epoch that was left";
      }
    }
  }
}

TEST(DataLoaderWorkers, ALoaderThatWasNeverReadEndsAtOnce) {
  const Watched dataset;
  {
    DataLoader loader(dataset, {.num_workers = 8});
  }
  EXPECT_EQ(dataset.log->begun, 0);
}

TEST(DataLoaderWorkers, MoreWorkersThanBatchesAreNoTrouble) {
  DataLoader loader(numbered_rows(5),
                    {.batch_size = 3, .num_workers = 1'000'000, .prefetch_batches = INT64_MAX});
  EXPECT_THAT(order_of(loader), ElementsAre(0, 1, 2, 3, 4));
}

}  // namespace
}  // namespace torch_accelerated::data_loader_workers_test
