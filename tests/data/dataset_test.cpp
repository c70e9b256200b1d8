// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <thread>

#include "data/batch_digest.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::dataset_test {
namespace {

using ::testing::AllOf;
using testing::digest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::numbered_rows;
using testing::numbers;

template <class Exception, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

using Indices = std::vector<std::int64_t>;

TEST(Dataset, GivesRowsOfTensorsInTheOrderAskedFor) {
  const Dataset dataset(numbered_rows(6));
  const Batch batch = dataset.get_batch(Indices{4, 0, 4, 5});
  EXPECT_EQ(dataset.size(), 6);
  EXPECT_THAT(numbers(batch["target"]), ElementsAre(4, 0, 4, 5));
  EXPECT_TRUE(batch["data"].equal(
      torch::tensor({{4.0F, 40.0F}, {0.0F, 0.0F}, {4.0F, 40.0F}, {5.0F, 50.0F}})));
  EXPECT_EQ(batch.begin()->first, "data");
}

TEST(Dataset, GivesMemoryOfItsOwn) {
  const Dataset dataset(numbered_rows(4));
  dataset.get_batch(Indices{0, 1, 2, 3})["data"].fill_(-1);
  EXPECT_TRUE(dataset.get_batch(Indices{1})["data"].equal(torch::tensor({{1.0F, 10.0F}})));
}

TEST(Dataset, ReadsNoRowsAtAll) {
  const Batch batch = Dataset(numbered_rows(4)).get_batch(Indices{});
  EXPECT_EQ(batch.rows(), 0);
  EXPECT_EQ(batch["data"].size(1), 2);
}

TEST(Dataset, TakesRowsThatAreNotContiguous) {
  const torch::Tensor columns = torch::arange(12).reshape({3, 4});
  const Dataset dataset(Batch{{"data", columns.t()}});
  EXPECT_TRUE(
      dataset.get_batch(Indices{3, 1})["data"].equal(torch::tensor({{3, 7, 11}, {1, 5, 9}})));
}

TEST(Dataset, GivesBatchesWithoutAGraph) {
  const Dataset dataset(Batch{{"data", torch::ones({3, 2}).requires_grad_()}});
  EXPECT_FALSE(dataset.get_batch(Indices{0})["data"].requires_grad());
}

TEST(Dataset, RefusesTensorsThatAreNoRows) {
  const auto message = message_of<ArgumentError>([] {
    Dataset(Batch{{"data", torch::ones({3, 2})},
                  {"scale", torch::tensor(2.0)},
                  {"target", torch::ones({4})},
                  {"mask", torch::Tensor()}});
  });
  EXPECT_THAT(message, AllOf(HasSubstr("'scale' is a scalar"), HasSubstr("'target' has 4 rows"),
                             HasSubstr("have 3"), HasSubstr("'mask' is an undefined tensor")));
  EXPECT_THAT(message_of<ArgumentError>([] { Dataset(Batch{}); }), HasSubstr("no tensor"));
}

TEST(Dataset, NamesAnIndexThatIsOutOfRange) {
  const Dataset dataset(numbered_rows(4));
  for (const std::int64_t wrong : {std::int64_t{4}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(message_of<ArgumentError>([&] { dataset.get_batch(Indices{0, wrong}); }),
                AllOf(HasSubstr("index " + std::to_string(wrong)), HasSubstr("place 1 of 2"),
                      HasSubstr("[0, 4)")));
  }
}

TEST(Dataset, AnEmptyHandleSaysSo) {
  const Dataset none;
  EXPECT_FALSE(none);
  EXPECT_THROW(none.size(), StateError);
  EXPECT_THROW(none.get_batch(Indices{}), StateError);
  EXPECT_FALSE(none.worker_copy());
}

struct Squares {
  std::int64_t rows_missing = 0;
  std::int64_t size() const { return 10; }
  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext& context) const {
    auto index = torch::tensor(at::ArrayRef<std::int64_t>(indices.data(), indices.size()));
    EXPECT_FALSE(torch::GradMode::is_enabled());
    EXPECT_EQ(torch::get_num_threads(), 1);
    return {{"data", (index * index + context.epoch).narrow(0, 0, index.numel() - rows_missing)}};
  }
};

TEST(Dataset, ReadsAnyTypeWithSizeAndGetBatch) {
  const Dataset dataset = Squares{};
  const Batch batch = dataset.get_batch(Indices{3, 9}, {.seed = 0, .epoch = 1000});
  EXPECT_THAT(numbers(batch["data"]), ElementsAre(1009, 1081));
}

TEST(Dataset, ReadingLeavesTheCallersThreadsAndGradientsAsTheyWere) {
  const Dataset dataset = Squares{};
  const int threads = torch::get_num_threads();
  int threads_elsewhere = 0;
  dataset.get_batch(Indices{1});
  EXPECT_EQ(torch::get_num_threads(), threads);
  EXPECT_TRUE(torch::GradMode::is_enabled());
  std::thread([&] { threads_elsewhere = torch::get_num_threads(); }).join();
  EXPECT_EQ(threads_elsewhere, threads);
  EXPECT_THROW(dataset.get_batch(Indices{10}), ArgumentError);
  EXPECT_EQ(torch::get_num_threads(), threads);
}

TEST(Dataset, RefusesABatchWithAnotherNumberOfRows) {
  const Dataset dataset = Squares{.rows_missing = 1};
  EXPECT_THAT(message_of<DataError>([&] { dataset.get_batch(Indices{1, 2, 3}); }),
              AllOf(HasSubstr("asked for 3"), HasSubstr("got 2 rows")));
}

TEST(Subset, GivesTheSamplesAtItsIndices) {
  const Dataset outer = subset(Dataset(numbered_rows(10)), {7, 2, 2, 9});
  const Dataset inner = subset(outer, {3, 0});
  EXPECT_EQ(outer.size(), 4);
  EXPECT_THAT(numbers(outer.get_batch(Indices{0, 2})["target"]), ElementsAre(7, 2));
  EXPECT_THAT(numbers(inner.get_batch(Indices{0, 1})["target"]), ElementsAre(9, 7));
  EXPECT_THAT(numbers(inner.worker_copy().get_batch(Indices{1})["target"]), ElementsAre(7));
  EXPECT_EQ(subset(outer, {}).size(), 0);
}

TEST(Subset, NamesAnIndexThatIsOutOfRange) {
  const Dataset dataset(numbered_rows(10));
  EXPECT_THAT(message_of<ArgumentError>([&] { subset(dataset, {0, 10}); }),
              AllOf(HasSubstr("subset"), HasSubstr("index 10"), HasSubstr("[0, 10)")));
  EXPECT_THROW(subset(dataset, {3}).get_batch(Indices{1}), ArgumentError);
  EXPECT_THROW(subset(Dataset(), {}), StateError);
}

struct Noise {
  std::int64_t size() const { return 5; }
  Batch get_batch(std::span<const std::int64_t> indices, const SampleContext& context) const {
    std::vector<double> values;
    for (const auto index : indices) values.push_back(context.generator(index).uniform());
    return {{"data", torch::tensor(values, torch::kFloat64)}};
  }
};

TEST(Subset, KeepsASamplesRandomNumbers) {
  const Dataset whole = Noise{};
  const SampleContext context{.seed = 3, .epoch = 4};
  EXPECT_EQ(digest(subset(whole, {4, 1}).get_batch(Indices{1, 0}, context)),
            digest(whole.get_batch(Indices{1, 4}, context)));
}

TEST(SampleContext, StreamsDependOnSeedEpochAndIndexAlone) {
  const SampleContext context{.seed = 1, .epoch = 2};
  const auto first = context.generator(3)();
  EXPECT_EQ(context.generator(3)(), first);
  EXPECT_NE(context.generator(4)(), first);
  EXPECT_NE((SampleContext{.seed = 1, .epoch = 3}.generator(3)()), first);
  EXPECT_NE((SampleContext{.seed = 2, .epoch = 2}.generator(3)()), first);
}

std::vector<Indices> targets_of(const std::vector<Dataset>& parts) {
  std::vector<Indices> targets;
  for (const Dataset& part : parts) {
    Indices all(static_cast<std::size_t>(part.size()));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
    targets.push_back(numbers(part.get_batch(all)["target"]));
  }
  return targets;
}

TEST(RandomSplit, CutsIntoPartsWithoutOverlap) {
  const auto targets = targets_of(random_split(Dataset(numbered_rows(1000)), {700, 0, 290, 10}));
  Indices together;
  for (const Indices& part : targets) together.insert(together.end(), part.begin(), part.end());
  EXPECT_EQ(targets[0].size(), 700U);
  EXPECT_THAT(targets[1], IsEmpty());
  EXPECT_FALSE(std::is_sorted(targets[0].begin(), targets[0].end()));
  std::sort(together.begin(), together.end());
  for (std::int64_t i = 0; i < 1000; ++i) EXPECT_EQ(together[static_cast<std::size_t>(i)], i);
}

TEST(RandomSplit, IsAPureFunctionOfSizesAndSeed) {
  const Dataset dataset(numbered_rows(100));
  EXPECT_EQ(targets_of(random_split(dataset, {80, 20}, 5)),
            targets_of(random_split(dataset, {80, 20}, 5)));
  EXPECT_NE(targets_of(random_split(dataset, {80, 20}, 5)),
            targets_of(random_split(dataset, {80, 20}, 6)));
}

TEST(RandomSplit, RefusesSizesThatDontAddUp) {
  const Dataset dataset(numbered_rows(10));
  const auto message = [&](const Indices& sizes) {
    return message_of<ArgumentError>([&] { random_split(dataset, sizes); });
  };
  EXPECT_THAT(message({5, 4}), AllOf(HasSubstr("10 samples"), HasSubstr("leave 1")));
  EXPECT_THAT(message({5, 6}), HasSubstr("exceed"));
  EXPECT_THAT(message({12, -2}), AllOf(HasSubstr(">= 0, got -2"), HasSubstr("exceed")));
  EXPECT_THAT(message({INT64_MAX, INT64_MAX, 12}), HasSubstr("exceed"));
  EXPECT_THAT(message({}), HasSubstr("leave 10"));
}

}  // namespace
}  // namespace torch_accelerated::dataset_test
