// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/torch_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "data/batch_digest.h"
#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated::torch_dataset_test {
namespace {

using testing::digest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::numbers;
using testing::rest_of;
using Indices = std::vector<std::int64_t>;
namespace datasets = torch::data::datasets;

/// Counts its copies, and complains when two threads are in one of them.
class Numbers : public datasets::Dataset<Numbers> {
 public:
  explicit Numbers(std::optional<std::size_t> size, std::atomic<int>* copies = nullptr)
      : size_(size), copies_(copies) {}
  Numbers(const Numbers& other) : size_(other.size_), copies_(other.copies_) {
    if (copies_ != nullptr) ++*copies_;
  }
  Numbers(Numbers&& other) noexcept : size_(other.size_), copies_(other.copies_) {}

  torch::data::Example<> get(std::size_t index) override {
    EXPECT_FALSE(busy_.exchange(true)) << "two threads read one copy at the same time";
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    busy_ = false;
    const auto number = static_cast<std::int64_t>(index);
    return {torch::full({3}, number), torch::tensor(number)};
  }
  std::optional<std::size_t> size() const override { return size_; }

 private:
  std::optional<std::size_t> size_;
  std::atomic<int>* copies_;
  std::atomic<bool> busy_{false};
};

class Stateful : public datasets::StatefulDataset<Stateful> {
 public:
  std::optional<std::vector<torch::data::Example<>>> get_batch(std::size_t) override { return {}; }
  std::optional<std::size_t> size() const override { return {}; }
  void reset() override {}
  void save(torch::serialize::OutputArchive&) const override {}
  void load(torch::serialize::InputArchive&) override {}
};

class Stream : public datasets::StreamDataset<Stream> {
 public:
  std::vector<torch::data::Example<>> get_batch(std::size_t) override { return {}; }
  std::optional<std::size_t> size() const override { return {}; }
};

using Stacked = datasets::MapDataset<Numbers, torch::data::transforms::Stack<>>;
using StackedTensors =
    datasets::MapDataset<datasets::TensorDataset,
                         torch::data::transforms::Stack<torch::data::TensorExample>>;

// What the static_asserts of torch_dataset() ask.
static_assert(detail::AdaptableTorchDataset<Numbers>);
static_assert(detail::AdaptableTorchDataset<Stacked>);
static_assert(detail::AdaptableTorchDataset<datasets::MNIST>);
static_assert(detail::AdaptableTorchDataset<datasets::TensorDataset>);
static_assert(detail::AdaptableTorchDataset<StackedTensors>);
static_assert(!detail::AdaptableTorchDataset<Stateful>);
static_assert(!detail::AdaptableTorchDataset<Stream>);
static_assert(!detail::TorchDataset<Batch>);

TEST(TorchDataset, StacksExamplesIntoDataAndTarget) {
  const Dataset dataset = torch_dataset(Numbers(10));
  const Batch batch = dataset.get_batch(Indices{7, 2});
  EXPECT_EQ(dataset.size(), 10);
  EXPECT_THAT(numbers(batch["target"]), ElementsAre(7, 2));
  EXPECT_THAT(numbers(batch["data"].flatten()), ElementsAre(7, 7, 7, 2, 2, 2));
}

TEST(TorchDataset, TakesWhatACollationHasStacked) {
  const Dataset plain = torch_dataset(Numbers(10));
  const Dataset mapped = torch_dataset(Numbers(10).map(torch::data::transforms::Stack<>()));
  EXPECT_EQ(digest(mapped.get_batch(Indices{7, 2})), digest(plain.get_batch(Indices{7, 2})));
}

TEST(TorchDataset, TensorExamplesHaveDataAlone) {
  const datasets::TensorDataset tensors(torch::arange(8).reshape({4, 2}));
  const Batch plain = torch_dataset(tensors).get_batch(Indices{3, 0});
  EXPECT_EQ(plain.size(), 1U);
  EXPECT_THAT(numbers(plain["data"].flatten()), ElementsAre(6, 7, 0, 1));
  using torch::data::TensorExample;
  const Dataset mapped = torch_dataset(
      datasets::TensorDataset(tensors).map(torch::data::transforms::Stack<TensorExample>()));
  EXPECT_EQ(digest(mapped.get_batch(Indices{3, 0})), digest(plain));
}

TEST(TorchDataset, RefusesADatasetThatDoesntKnowItsSize) {
  try {
    torch_dataset(Numbers(std::nullopt));
    FAIL() << "nothing was thrown";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), HasSubstr("doesn't know its size"));
    EXPECT_THAT(error.what(), HasSubstr("BatchSource"));
  }
}

TEST(TorchDataset, EachWorkerReadsACopyOfItsOwn) {
  std::atomic<int> copies{0};
  const Dataset dataset =
      subset(torch_dataset(Numbers(64, &copies)), Indices{9, 8, 7, 6, 5, 4, 3, 2});
  const int before = copies;
  DataLoader loader(dataset, {.batch_size = 1, .num_workers = 4});
  EXPECT_EQ(rest_of(loader).size(), 8U);
  EXPECT_EQ(copies - before, 4);
}

TEST(TorchDataset, GivesTheSameBatchesForAnyNumberOfWorkers) {
  const Dataset dataset = torch_dataset(Numbers(50));
  DataLoader alone(dataset, {.batch_size = 4, .shuffle = true});
  const auto expected = rest_of(alone);
  for (const int workers : {1, 8}) {
    DataLoader loader(dataset, {.batch_size = 4, .shuffle = true, .num_workers = workers});
    EXPECT_EQ(rest_of(loader), expected);
  }
}

TEST(TorchDataset, ThreadsThatShareAHandleTakeTurns) {
  const Dataset dataset = torch_dataset(Numbers(50));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { dataset.get_batch(Indices{1, 2, 3, 4, 5, 6, 7, 8}); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace torch_accelerated::torch_dataset_test
