// SPDX-License-Identifier: Apache-2.0
// Resume is continuation: a run that is cut anywhere and gone on with ends as one that never was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/resumable_run.h"
#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests {
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
  EXPECT_THAT([&] { again.train(ta::latest_checkpoint(folder.path() / "checkpoints")); },
              testing::ThrowsMessage<ta::ArgumentError>(
                  testing::AllOf(testing::HasSubstr("epochs was 3 and is 7"),
                                 testing::HasSubstr("clip gradient norm was 1 and is 0.5"),
                                 testing::HasSubstr("resume_with_changes"))));
  ResumableRun accepted(folder.path());
  accepted.options().num_epochs = 7;
  accepted.options().resume_with_changes = true;
  const auto result = accepted.train(ta::latest_checkpoint(folder.path() / "checkpoints"));
  EXPECT_EQ(result.progress.update, 35);
  EXPECT_EQ(result.progress.epoch, 7);
}

}  // namespace
}  // namespace tests
