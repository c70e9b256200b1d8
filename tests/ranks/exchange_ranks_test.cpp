// SPDX-License-Identifier: Apache-2.0
// What ranks give each other beside gradients, and in which order they do things.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "ranks/shared_folder.h"
#include "support/tiny.h"

namespace tests::exchange_ranks_test {
namespace {

using testing::HasSubstr;

// Any number of rows, of which some ranks have none.
std::int64_t rows_of(int rank) { return (2 * rank) % 3; }

constexpr double kPadding = -1;

// The rows of a rank, (rows_of, ...), told apart by their numbers; every third is as the padding.
torch::Tensor part_of(int rank, std::vector<std::int64_t> row, torch::Dtype dtype) {
  row.insert(row.begin(), rows_of(rank));
  std::int64_t count = 1;
  for (const auto length : row) count *= length;
  const auto numbers = torch::arange(count) + 20 * rank;
  return torch::where(numbers % 3 == 0, torch::full_like(numbers, kPadding), numbers)
      .reshape(row)
      .to(dtype);
}

TEST(Exchange, GatherKeepsEveryRowOfAnyShape) {
  ta::Accelerator ranks;
  for (const auto& row : std::vector<std::vector<std::int64_t>>{{}, {2}, {2, 3}, {2, 1, 3}}) {
    for (const auto dtype : {torch::kFloat32, torch::kInt64, torch::kBool, torch::kBFloat16}) {
      std::vector<torch::Tensor> parts;
      for (int rank = 0; rank < ranks.world_size(); ++rank) {
        parts.push_back(part_of(rank, row, dtype));
      }
      const auto mine = parts[static_cast<std::size_t>(ranks.rank())];
      const auto all = ranks.gather(mine);
      EXPECT_EQ(all.scalar_type(), dtype);
      EXPECT_TRUE(torch::equal(all, torch::cat(parts))) << row.size() << dtype;
      EXPECT_TRUE(torch::equal(ranks.gather(mine, kPadding), all)) << row.size() << dtype;
    }
  }
}

// A real row that looks like padding stays, and a rank without rows adds none.
TEST(Exchange, PaddedGatherFillsUpDimensionsAtTheirEndsAndKeepsEveryRow) {
  ta::Accelerator ranks;
  const std::int64_t widest = ranks.world_size();
  for (const bool is_deep : {false, true}) {
    for (const auto dtype : {torch::kFloat32, torch::kInt64}) {
      std::vector<torch::Tensor> wanted;
      torch::Tensor mine;
      for (int rank = 0; rank < ranks.world_size(); ++rank) {
        const std::int64_t width = rank + 1;
        const std::int64_t depth = widest - rank;  // the deepest rank is the narrowest
        const auto part = part_of(
            rank,
            is_deep ? std::vector<std::int64_t>{depth, width} : std::vector<std::int64_t>{width},
            dtype);
        if (rank == ranks.rank()) mine = part;
        std::vector<std::int64_t> lacking{0, widest - width};  // from the last dimension on
        if (is_deep) lacking.insert(lacking.end(), {0, widest - depth});
        wanted.push_back(torch::constant_pad_nd(part, lacking, kPadding));
      }
      EXPECT_TRUE(torch::equal(ranks.gather(mine, kPadding), torch::cat(wanted)))
          << is_deep << dtype;
    }
  }
}

TEST(Exchange, GatherGoesWithAnyLayoutAndLeavesTheGraphBehind) {
  ta::Accelerator ranks;
  const auto columns = torch::arange(6).reshape({2, 3}).to(torch::kFloat32).t();
  const auto all = ranks.gather(columns.clone().requires_grad_().t().t());
  EXPECT_TRUE(torch::equal(all, columns.repeat({ranks.world_size(), 1})));
  EXPECT_TRUE(ranks.world_size() == 1 || !all.requires_grad());
}

TEST(Exchange, HelpersDoWhatTheySay) {
  ta::Accelerator ranks;
  const int size = ranks.world_size();
  EXPECT_EQ(ranks.reduce(torch::ones({2}))[0].item<float>(), static_cast<float>(size));
  EXPECT_EQ(ranks.broadcast(torch::full({1}, ranks.rank()), size - 1).item<int>(), size - 1);
  EXPECT_EQ(ranks.gather_objects("r" + std::to_string(ranks.rank())).back(),
            "r" + std::to_string(size - 1));
  EXPECT_TRUE(ranks.any(ranks.rank() == size - 1));
  EXPECT_FALSE(ranks.any(false));
  if (ranks.rank() == size - 1) ranks.set_trigger(ta::Trigger::kCheckpoint);
  ranks.exchange_triggers();
  EXPECT_TRUE(ranks.is_triggered(ta::Trigger::kCheckpoint));
  EXPECT_FALSE(ranks.is_triggered(ta::Trigger::kEvaluation));
}

// The others find what the main process has made, though it takes its time.
TEST(Exchange, MainProcessFirstIsAnOrder) {
  ta::Accelerator ranks;
  const SharedFolder folder(ranks);
  const auto file = folder.path() / "downloaded";
  int runs = 0;
  ranks.main_process_first([&] {
    ++runs;
    EXPECT_EQ(std::filesystem::exists(file), !ranks.is_main_process());
    if (!ranks.is_main_process()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::ofstream(file) << "all of it";
  });
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(Exchange, WhereTheMainProcessFailsFirstNobodyElseBegins) {
  ta::Accelerator ranks;
  int runs = 0;
  const auto text = message_of<ta::Error>([&] {
    ranks.main_process_first([&] {
      ++runs;
      throw ta::DataError("the download broke off");
    });
  });
  EXPECT_EQ(runs, ranks.is_main_process() ? 1 : 0);
  EXPECT_THAT(text, HasSubstr("the download broke off"));
}

}  // namespace
}  // namespace tests::exchange_ranks_test
