// SPDX-License-Identifier: Apache-2.0
// Resume is continuation: a run that is cut anywhere and gone on with ends as one that never was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/resumable_gan.h"
#include "support/resumable_run.h"
#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::resume_test {
namespace {

using torch_accelerated::testing::TempDir;

class Resume : public testing::TestWithParam<std::int64_t> {};

// The update after which the run is cut; the run has 3 epochs of 5 updates.
INSTANTIATE_TEST_SUITE_P(EachUpdate, Resume, testing::Range<std::int64_t>(1, 15));

TEST_P(Resume, AfterAnyUpdateIsContinuation) {
  const TempDir whole_folder;
  ResumableRun whole(whole_folder.path());
  whole.train();

  const TempDir folder;
  {
    ResumableRun cut(folder.path());
    cut.stop_after(GetParam());
    EXPECT_TRUE(cut.train().was_stopped());
  }
  ResumableRun again(folder.path());
  const auto checkpoint = ta::latest_checkpoint(folder.path() / "checkpoints");
  ASSERT_TRUE(checkpoint.has_value());
  const auto result = again.train(checkpoint);
  EXPECT_FALSE(result.was_stopped());
  EXPECT_EQ(again.trace(), whole.trace());
}

class ResumeOfAGan : public testing::TestWithParam<std::int64_t> {};

// Of 6 epochs of 3 updates: within one, at the end of one, and while an epoch that was no
// improvement is counted.
INSTANTIATE_TEST_SUITE_P(Updates, ResumeOfAGan, testing::Values(1, 3, 5, 6, 8, 10, 12, 17));

TEST_P(ResumeOfAGan, IsContinuationOfBothModulesWithTheirOptimizersStatisticsAndRates) {
  const TempDir whole_folder;
  ResumableGan whole(whole_folder.path());
  whole.train();
  const auto& rates = whole.rates();
  ASSERT_EQ(rates.size(), 36U);
  ASSERT_LT(rates[34], ResumableGan::kRate);  // else the plateaus say nothing
  ASSERT_EQ(rates[35], 2 * rates[34]);

  const TempDir folder;
  {
    ResumableGan cut(folder.path());
    cut.stop_after(GetParam());
    EXPECT_TRUE(cut.train().was_stopped());
  }
  ResumableGan again(folder.path());
  const auto result = again.train(ta::latest_checkpoint(folder.path() / "checkpoints"));
  EXPECT_FALSE(result.was_stopped());
  EXPECT_EQ(again.trace(), whole.trace());
}

TEST(Resume, FromTheEndOfAnEpochIsContinuation) {
  const TempDir whole_folder;
  ResumableRun whole(whole_folder.path());
  whole.train();

  const TempDir folder;
  ResumableRun all(folder.path());
  all.keep_all_epochs();
  all.train();
  for (const int update : {5, 10}) {
    std::ostringstream name;
    name << "update-" << std::setw(9) << std::setfill('0') << update;
    ResumableRun again(folder.path());
    again.train(folder.path() / "checkpoints" / name.str());
    EXPECT_EQ(again.trace(), whole.trace()) << name.str();
  }
}

// 10 micro-batches an epoch make 5 updates, then 10, then 4.
TEST(Resume, GoesOnInAnAccumulationSchedule) {
  const auto schedule = [](ResumableRun& run) {
    run.options().global_batch_size.reset();
    run.options().per_device_batch_size = 4;
    run.options().accumulation_schedule = {{2, 1}, {3, 3}};
  };
  const TempDir whole_folder;
  ResumableRun whole(whole_folder.path());
  schedule(whole);
  EXPECT_EQ(whole.train().progress.update, 19);
  for (const int update : {3, 5, 9, 15, 17}) {
    const TempDir folder;
    {
      ResumableRun cut(folder.path());
      schedule(cut);
      cut.stop_after(update);
      EXPECT_TRUE(cut.train().was_stopped());
    }
    ResumableRun again(folder.path());
    schedule(again);
    again.train(ta::latest_checkpoint(folder.path() / "checkpoints"));
    EXPECT_EQ(again.trace(), whole.trace()) << update;
  }
}

TEST(Resume, OfAFinishedRunTrainsNothing) {
  const TempDir folder;
  ResumableRun whole(folder.path());
  whole.save_at_end();
  whole.train();
  ResumableRun again(folder.path());
  again.train(ta::latest_checkpoint(folder.path() / "checkpoints"));
  EXPECT_EQ(again.trace(), whole.trace());
}

TEST(Resume, WithAnotherRunConfigIsToldFieldByField) {
  const TempDir folder;
  ResumableRun cut(folder.path());
  cut.stop_after(4);
  cut.train();
  ResumableRun again(folder.path());
  again.options().num_epochs = 7;
  again.options().clip_gradient_norm = 0.5;
  EXPECT_THAT(message_of<ta::ArgumentError>(
                  [&] { again.train(ta::latest_checkpoint(folder.path() / "checkpoints")); }),
              testing::AllOf(testing::HasSubstr("epochs was 3 and is 7"),
                             testing::HasSubstr("clip gradient norm was 1 and is 0.5"),
                             testing::HasSubstr("resume_with_changes")));
  ResumableRun accepted(folder.path());
  accepted.options().num_epochs = 7;
  accepted.options().resume_with_changes = true;
  const auto result = accepted.train(ta::latest_checkpoint(folder.path() / "checkpoints"));
  EXPECT_EQ(result.progress.update, 35);
  EXPECT_EQ(result.progress.epoch, 7);
}

}  // namespace
}  // namespace tests::resume_test
