// SPDX-License-Identifier: Apache-2.0
// Checkpoints of several ranks: resume on as many, and on another number.
#include <gmock/gmock.h>

#include <filesystem>

#include "ranks/shared_folder.h"
#include "support/resumable_run.h"
#include "support/temp_dir.h"

namespace tests::resume_ranks_test {
namespace {

using torch_accelerated::testing::TempDir;

bool is_power_of_two(int ranks) { return (ranks & (ranks - 1)) == 0; }

void make_deterministic(ResumableRun& run) {
  run.options().gradient_accumulation_steps = 1;
  run.options().deterministic_shards = 4;
}

TEST(ResumeOnRanks, IsContinuationOnAsManyRanks) {
  ta::Accelerator ranks;
  const SharedFolder whole_folder(ranks);
  ResumableRun whole(whole_folder.path(), &ranks);
  whole.train();
  for (const int update : {1, 5, 7, 13}) {
    const SharedFolder folder(ranks);
    {
      ResumableRun cut(folder.path(), &ranks);
      cut.stop_after(update);
      EXPECT_TRUE(cut.train().was_stopped());
    }
    ResumableRun again(folder.path(), &ranks);
    EXPECT_FALSE(again.train(ta::latest_checkpoint(folder.checkpoints())).was_stopped());
    EXPECT_EQ(again.trace(), whole.trace()) << update;
  }
}

TEST(ResumeOnRanks, SavesInTheMiddleWithoutWaitingAndCommitsLater) {
  ta::Accelerator ranks;
  const SharedFolder folder(ranks);
  ResumableRun run(folder.path(), &ranks);
  run.options().checkpoints.keep_newest.reset();
  run.trainer().callbacks().add(ta::SaveCheckpoints({.every_updates = 2}));
  run.train();
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.checkpoints())) {
    if (std::filesystem::exists(entry.path() / "manifest.json")) ++found;
  }
  EXPECT_EQ(found, 8U);  // of updates 2 to 14, and the end
}

// From one to all ranks and back: the rows of an update are the same, and so are the weights.
TEST(ResumeOnRanks, OnAnotherNumberOfRanksGivesTheSameWeightsToRounding) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const SharedFolder whole_folder(ranks);
  ResumableRun whole(whole_folder.path(), &ranks, /*dropout=*/0);
  whole.train();

  const SharedFolder up(ranks);
  if (ranks.is_main_process()) {
    ResumableRun cut(up.path(), &alone, 0);
    cut.stop_after(7);
    cut.train();
  }
  ranks.barrier();
  ResumableRun on_all(up.path(), &ranks, 0);
  on_all.train(ta::latest_checkpoint(up.checkpoints()));
  EXPECT_LT(relative_difference(*on_all.net(), *whole.net()), 1e-11);

  const SharedFolder down(ranks);
  ResumableRun cut(down.path(), &ranks, 0);
  cut.stop_after(7);
  cut.train();
  if (!ranks.is_main_process()) return;
  ResumableRun on_one(down.path(), &alone, 0);
  on_one.train(ta::latest_checkpoint(down.checkpoints()));
  EXPECT_LT(relative_difference(*on_one.net(), *whole.net()), 1e-11);
  EXPECT_EQ(on_one.trainer().history().rows().size(), whole.trainer().history().rows().size());
  EXPECT_NEAR(on_one.trainer().history().latest("train_loss"),
              whole.trainer().history().latest("train_loss"), 1e-12);
}

TEST(ResumeOnRanks, OnAnotherNumberOfRanksGivesTheSameBitsInADeterministicRun) {
  ta::Accelerator ranks;
  if (!is_power_of_two(ranks.world_size())) return;
  ta::Accelerator alone(ta::make_single_world());
  const SharedFolder whole_folder(ranks);
  ResumableRun whole(whole_folder.path(), &ranks);
  make_deterministic(whole);
  whole.train();

  const SharedFolder up(ranks);
  if (ranks.is_main_process()) {
    ResumableRun cut(up.path(), &alone);
    make_deterministic(cut);
    cut.stop_after(8);
    cut.train();
  }
  ranks.barrier();
  ResumableRun on_all(up.path(), &ranks);
  make_deterministic(on_all);
  on_all.train(ta::latest_checkpoint(up.checkpoints()));
  EXPECT_TRUE(equal_bits(*on_all.net(), *whole.net()));

  const SharedFolder down(ranks);
  ResumableRun cut(down.path(), &ranks);
  make_deterministic(cut);
  cut.stop_after(8);
  cut.train();
  if (!ranks.is_main_process()) return;
  ResumableRun on_one(down.path(), &alone);
  make_deterministic(on_one);
  on_one.train(ta::latest_checkpoint(down.checkpoints()));
  EXPECT_TRUE(equal_bits(*on_one.net(), *whole.net()));
  EXPECT_EQ(on_one.trainer().history().latest("train_loss"),
            whole.trainer().history().latest("train_loss"));
}

// Some ranks have been at their ends for a while where the run is cut.
TEST(ResumeOnRanks, WhereEachBringsRowsOfItsOwnIsContinuationOnAsManyRanks) {
  ta::Accelerator ranks;
  const auto bring_own_rows = [&](ResumableRun& run) {
    run.data() = tiny_batch(37 - 9 * ranks.rank(), 20 + static_cast<unsigned>(ranks.rank()),
                            torch::kFloat64);
    run.options().rows = ta::Rows::kPerRank;
    run.options().global_batch_size.reset();
    run.options().per_device_batch_size = 4;
  };
  const SharedFolder whole_folder(ranks);
  ResumableRun whole(whole_folder.path(), &ranks);
  bring_own_rows(whole);
  whole.train();
  for (const int update : {2, 5, 9}) {
    const SharedFolder folder(ranks);
    {
      ResumableRun cut(folder.path(), &ranks);
      bring_own_rows(cut);
      cut.stop_after(update);
      EXPECT_TRUE(cut.train().was_stopped());
    }
    ResumableRun again(folder.path(), &ranks);
    bring_own_rows(again);
    EXPECT_FALSE(again.train(ta::latest_checkpoint(folder.checkpoints())).was_stopped());
    EXPECT_EQ(again.trace(), whole.trace()) << update;
  }
}

TEST(ResumeOnRanks, WhereEachBringsRowsOfItsOwnIsRefusedOnAnotherNumberOfRanks) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  ta::Accelerator alone(ta::make_single_world());
  const auto rows_of_ranks = [](ResumableRun& run) {
    run.options().rows = ta::Rows::kPerRank;
    run.options().global_batch_size.reset();
    run.options().per_device_batch_size = 4;
  };
  const SharedFolder folder(ranks);
  {
    ResumableRun cut(folder.path(), &ranks);
    rows_of_ranks(cut);
    cut.stop_after(2);
    cut.train();
  }
  if (!ranks.is_main_process()) return;
  ResumableRun on_one(folder.path(), &alone);
  rows_of_ranks(on_one);
  const auto refused = message_of<ta::ArgumentError>(
      [&] { on_one.train(ta::latest_checkpoint(folder.checkpoints())); });
  EXPECT_THAT(refused, testing::HasSubstr("start as many"));
}

TEST(ResumeOnRanks, RefusesADirectoryThatNotAllRanksSee) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  const TempDir own;  // another on each rank
  ResumableRun run(own.path(), &ranks);
  EXPECT_THAT(message_of<ta::Error>([&] { run.train(); }), testing::HasSubstr("doesn't see"));
}

}  // namespace
}  // namespace tests::resume_ranks_test
