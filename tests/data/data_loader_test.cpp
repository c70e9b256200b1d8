// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/data_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <stdexcept>

#include "data/batch_digest.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/data/per_sample.h"
#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated::data_loader_test {
namespace {

using ::testing::AllOf;
using testing::digest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::numbered_rows;
using testing::numbers;
using testing::order_of;
using testing::rest_of;
using Indices = std::vector<std::int64_t>;

/// Samples with random numbers of their own, and a sum whose last bits depend on how many threads
/// add it up.
struct Augmented {
  std::int64_t size() const { return 45; }
  Sample get(std::int64_t index, const SampleContext& context) const {
    auto stream = context.generator(index);
    const torch::Tensor wave =
        torch::arange(100'000, torch::kFloat32).mul(stream.uniform(0.1, 1.0)).sin();
    return {{"data", wave.sum()}, {"target", torch::tensor(index)}};
  }
};

TEST(DataLoader, GivesTheSameBatchesForAnyNumberOfWorkers) {
  for (const bool shuffle : {false, true}) {
    std::vector<std::vector<std::uint64_t>> expected;
    for (const int workers : {0, 1, 8}) {
      DataLoader loader(per_sample(Augmented{}), {.batch_size = 7,
                                                  .shuffle = shuffle,
                                                  .num_workers = workers,
                                                  .prefetch_batches = 2,
                                                  .seed = 11});
      std::vector<std::vector<std::uint64_t>> epochs;
      for (const std::int64_t epoch : {0, 1, 5}) {
        loader.start_epoch(epoch);
        epochs.push_back(rest_of(loader));
      }
      EXPECT_EQ(epochs[0].size(), 7U);
      EXPECT_NE(epochs[0], epochs[1]);
      if (workers == 0) expected = epochs;
      EXPECT_EQ(epochs, expected) << workers << " workers, shuffle " << shuffle;
    }
  }
}

TEST(DataLoader, OrderIsThePermutationOfSeedAndEpoch) {
  DataLoader loader(numbered_rows(100), {.batch_size = 8, .shuffle = true, .seed = 42});
  for (const std::int64_t epoch : {3, 0, 3}) {
    const KeyedPermutation permutation(100, 42, epoch);
    Indices expected(100);
    for (std::int64_t i = 0; i < 100; ++i) expected[static_cast<std::size_t>(i)] = permutation(i);
    loader.start_epoch(epoch);
    EXPECT_EQ(loader.epoch(), epoch);
    EXPECT_EQ(order_of(loader), expected);
  }
}

TEST(DataLoader, GoesInOrderWithoutShuffle) {
  DataLoader loader(numbered_rows(20), {.batch_size = 8, .num_workers = 2});
  Indices expected(20);
  for (std::int64_t i = 0; i < 20; ++i) expected[static_cast<std::size_t>(i)] = i;
  for (const std::int64_t epoch : {0, 1}) {
    loader.start_epoch(epoch);
    EXPECT_EQ(order_of(loader), expected);
  }
}

TEST(DataLoader, AnEpochEndsOnce) {
  for (const int workers : {0, 2}) {
    DataLoader loader(numbered_rows(5), {.batch_size = 2, .num_workers = workers});
    EXPECT_EQ(rest_of(loader).size(), 3U);
    EXPECT_FALSE(loader.next());
    EXPECT_FALSE(loader.next());
    EXPECT_EQ(loader.position(), 3);
  }
}

struct Cut {
  std::int64_t rows, batch_size;
  bool drop_last;
  std::optional<std::int64_t> limit;
  Indices sizes;
};

TEST(DataLoader, CutsAnEpochIntoBatches) {
  for (const Cut& cut : {
           Cut{10, 4, false, {}, {4, 4, 2}},
           Cut{10, 4, true, {}, {4, 4}},
           Cut{8, 4, false, {}, {4, 4}},
           Cut{8, 4, true, {}, {4, 4}},
           Cut{10, 4, false, 2, {4, 4}},
           Cut{10, 4, false, INT64_MAX, {4, 4, 2}},
           Cut{10, 32, false, {}, {10}},
           Cut{10, INT64_MAX, false, {}, {10}},
           Cut{10, 10, true, {}, {10}},
           Cut{3, 1, false, {}, {1, 1, 1}},
       }) {
    const DataLoaderOptions options{
        .batch_size = cut.batch_size, .drop_last = cut.drop_last, .limit_batches = cut.limit};
    DataLoader loader(numbered_rows(cut.rows), options);
    Indices sizes;
    while (const auto batch = loader.next()) sizes.push_back(batch->rows());
    EXPECT_EQ(sizes, cut.sizes);
    const auto batches = static_cast<std::int64_t>(cut.sizes.size());
    EXPECT_EQ(loader.size(), batches);
    for (std::int64_t first = 0; first <= batches; ++first) {
      std::int64_t rows = 0;
      for (std::int64_t end = first; end < batches; ++end) {
        EXPECT_EQ(loader.rows_of(first, end - first), rows);
        rows += cut.sizes[static_cast<std::size_t>(end)];
      }
      EXPECT_EQ(loader.rows_of(first, INT64_MAX), rows) << "batches that aren't there count none";
    }
  }
}

std::string refusal_of(const Dataset& dataset, const DataLoaderOptions& options) {
  try {
    DataLoader loader(dataset, options);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(DataLoader, TellsAllWrongOptionsAtOnce) {
  const auto message = refusal_of(numbered_rows(10), {.batch_size = 0,
                                                      .num_workers = -1,
                                                      .prefetch_batches = 0,
                                                      .limit_batches = 0,
                                                      .device = c10::Device("cuda:99")});
  EXPECT_THAT(message, AllOf(HasSubstr("batch_size must be >= 1 row, got 0"),
                             HasSubstr("num_workers must be >= 0, got -1"),
                             HasSubstr("prefetch_batches must be >= 1, got 0"),
                             HasSubstr("limit_batches must be >= 1, got 0"),
                             HasSubstr("no device cuda:99")));
  EXPECT_THAT(refusal_of(numbered_rows(10), {.batch_size = INT64_MIN}),
              HasSubstr("got -9223372036854775808"));
}

TEST(DataLoader, RefusesAnEmptyDataset) {
  EXPECT_THAT(refusal_of(numbered_rows(0), {}), HasSubstr("the dataset is empty"));
  EXPECT_THROW(DataLoader(Dataset(), {}), StateError);
}

TEST(DataLoader, RefusesADropLastThatLeavesNothing) {
  EXPECT_THAT(refusal_of(numbered_rows(10), {.batch_size = 11, .drop_last = true}),
              AllOf(HasSubstr("drop_last leaves nothing of 10 samples in batches of 11"),
                    HasSubstr("batch_size <= 10")));
}

TEST(DataLoader, PositionCountsWhatTheCallerHasGot) {
  DataLoader loader(numbered_rows(40), {.batch_size = 4, .num_workers = 2, .prefetch_batches = 3});
  EXPECT_EQ(loader.position(), 0);
  loader.next();
  loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the workers are far ahead
  EXPECT_EQ(loader.position(), 2);
  loader.start_epoch(1);
  EXPECT_EQ(loader.position(), 0);
}

TEST(DataLoader, ContinuesExactlyFromAPosition) {
  const DataLoaderOptions options{.batch_size = 6, .shuffle = true, .seed = 1};
  DataLoader whole(per_sample(Augmented{}), options);
  whole.start_epoch(2);
  const auto expected = rest_of(whole);
  for (const int workers : {0, 3}) {
    for (std::size_t position = 0; position <= expected.size(); ++position) {
      auto again = options;
      again.num_workers = workers;
      DataLoader loader(per_sample(Augmented{}), again);
      loader.set_position(2, static_cast<std::int64_t>(position));
      EXPECT_EQ(loader.epoch(), 2);
      EXPECT_EQ(
          rest_of(loader),
          std::vector(expected.begin() + static_cast<std::ptrdiff_t>(position), expected.end()));
    }
  }
}

TEST(DataLoader, RefusesAPositionThatIsNone) {
  DataLoader loader(numbered_rows(10), {.batch_size = 4});
  loader.set_position(1, 2);
  EXPECT_THROW(loader.start_epoch(-1), ArgumentError);
  EXPECT_THROW(loader.set_position(0, -1), ArgumentError);
  try {
    loader.set_position(-5, 4);
    FAIL() << "nothing was thrown";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("got -5"), HasSubstr("[0, 3], got 4")));
  }
  EXPECT_EQ(loader.epoch(), 1);
  EXPECT_EQ(loader.position(), 2);
}

TEST(DataLoader, AnyWalkThroughEpochsAndPositionsIsTheSameWithWorkers) {
  std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same walk each time
  const auto below = [&random](std::int64_t n) { return static_cast<std::int64_t>(random()) % n; };
  for (int walk = 0; walk < 20; ++walk) {
    DataLoaderOptions options{.batch_size = 1 + below(5),
                              .shuffle = below(2) == 0,
                              .prefetch_batches = 1 + below(4),
                              .seed = random()};
    DataLoader alone(numbered_rows(1 + below(40)), options);
    options.num_workers = 1 + static_cast<int>(below(6));
    const std::int64_t rows = *alone.rows_of(0, *alone.size());
    DataLoader with_workers(numbered_rows(rows), options);
    for (int step = 0; step < 100; ++step) {
      const std::int64_t epoch = below(3);
      const std::int64_t position = below(*alone.size() + 1);
      const std::int64_t action = below(10);
      for (DataLoader* loader : {&alone, &with_workers}) {
        if (action == 0) loader->start_epoch(epoch);
        if (action == 1) loader->set_position(epoch, position);
      }
      const auto one = alone.next();
      const auto other = with_workers.next();
      ASSERT_EQ(one.has_value(), other.has_value());
      if (one) {
        ASSERT_EQ(digest(*one), digest(*other));
      }
      ASSERT_EQ(alone.position(), with_workers.position());
    }
  }
}

/// Numbered samples, of which one can't be read for as long as `broken` says.
struct Faulty {
  std::shared_ptr<std::atomic<std::int64_t>> broken;
  bool standard = true;

  std::int64_t size() const { return 30; }
  Sample get(std::int64_t index) const {
    if (index == *broken && standard) throw std::runtime_error("torn page");
    if (index == *broken) throw 42;
    return {{"target", torch::tensor(index)}};
  }
};

std::string data_error_of(DataLoader& loader) {
  try {
    loader.next();
  } catch (const DataError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(DataLoader, AnExceptionArrivesInItsPlaceAndTheLoaderGoesOn) {
  for (const int workers : {0, 1, 8}) {
    auto broken = std::make_shared<std::atomic<std::int64_t>>(13);
    DataLoader loader(per_sample(Faulty{broken}), {.batch_size = 5, .num_workers = workers});
    EXPECT_THAT(numbers((*loader.next())["target"]), ElementsAre(0, 1, 2, 3, 4));
    EXPECT_THAT(numbers((*loader.next())["target"]), ElementsAre(5, 6, 7, 8, 9));
    for (int attempt = 0; attempt < 2; ++attempt) {
      EXPECT_THAT(data_error_of(loader),
                  AllOf(HasSubstr("batch 2 of epoch 0"), HasSubstr("the first 10, the last 14"),
                        HasSubstr("sample 13 of 30: torn page"), HasSubstr("set_position(0, 3)")));
      EXPECT_EQ(loader.position(), 2);
    }
    loader.set_position(0, 3);
    EXPECT_THAT(numbers((*loader.next())["target"]), ElementsAre(15, 16, 17, 18, 19));
    *broken = -1;
    loader.start_epoch(1);
    EXPECT_EQ(order_of(loader).size(), 30U);
  }
}

TEST(DataLoader, AFaultThatPassesIsReadAgain) {
  for (const int workers : {0, 3}) {
    auto broken = std::make_shared<std::atomic<std::int64_t>>(0);
    DataLoader loader(per_sample(Faulty{broken}), {.batch_size = 5, .num_workers = workers});
    EXPECT_THAT(data_error_of(loader), HasSubstr("sample 0"));
    *broken = -1;
    EXPECT_EQ(order_of(loader).size(), 30U);
  }
}

TEST(DataLoader, AnExceptionThatIsNoStdExceptionArrivesToo) {
  for (const int workers : {0, 2}) {
    auto broken = std::make_shared<std::atomic<std::int64_t>>(2);
    DataLoader loader(per_sample(Faulty{broken, false}), {.batch_size = 5, .num_workers = workers});
    EXPECT_THAT(data_error_of(loader), AllOf(HasSubstr("sample 2 of 30"), HasSubstr("type int")));
  }
}

TEST(DataLoader, RefusesADatasetThatGivesOtherNumbersOfRows) {
  struct TwoViews {
    std::int64_t size() const { return 8; }
    Batch get_batch(std::span<const std::int64_t> indices, const SampleContext&) const {
      return {{"data", torch::zeros({2 * static_cast<std::int64_t>(indices.size()), 3})}};
    }
  };
  DataLoader loader(TwoViews{}, {.batch_size = 4});
  EXPECT_THAT(data_error_of(loader), AllOf(HasSubstr("asked for 4"), HasSubstr("got 8 rows")));
}

// No GPU is needed for the order of things on the way to a device: meta tensors have none either.
TEST(DataLoader, BringsBatchesToADevice) {
  for (const int workers : {0, 2}) {
    DataLoader loader(numbered_rows(10),
                      {.batch_size = 4, .num_workers = workers, .device = c10::Device("meta")});
    for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
      loader.start_epoch(epoch);
      for (const std::int64_t rows : {4, 4, 2}) {
        const auto batch = loader.next();
        ASSERT_TRUE(batch);
        EXPECT_TRUE((*batch)["data"].is_meta());
        EXPECT_EQ(batch->rows(), rows);
      }
      EXPECT_FALSE(loader.next());
    }
    loader.set_position(3, 2);
    EXPECT_EQ(loader.next()->rows(), 2);
    EXPECT_EQ(loader.position(), 3);
  }
}

TEST(DataLoader, OnADeviceAnExceptionArrivesInItsPlaceToo) {
  for (const int workers : {0, 3}) {
    auto broken = std::make_shared<std::atomic<std::int64_t>>(13);
    DataLoader loader(per_sample(Faulty{broken}),
                      {.batch_size = 5, .num_workers = workers, .device = c10::Device("meta")});
    EXPECT_TRUE(loader.next());
    EXPECT_TRUE(loader.next());
    EXPECT_THAT(data_error_of(loader), HasSubstr("sample 13"));
    EXPECT_THAT(data_error_of(loader), HasSubstr("sample 13"));
    EXPECT_EQ(loader.position(), 2);
    *broken = -1;
    int rest = 0;
    while (loader.next()) ++rest;
    EXPECT_EQ(rest, 4);
  }
}

}  // namespace
}  // namespace torch_accelerated::data_loader_test
