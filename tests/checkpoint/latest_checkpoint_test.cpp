// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/checkpoint/latest_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/checkpoint_folders.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

TEST(LatestCheckpoint, IsNothingWhereThereIsNone) {
  const TempDir temp;
  EXPECT_FALSE(latest_checkpoint(temp.path()));
  EXPECT_FALSE(latest_checkpoint(temp.path() / "missing" / "too"));
  CheckpointFolder folder(temp.path());
  folder.lock();
  folder.begin(1);
  EXPECT_FALSE(latest_checkpoint(temp.path()));
}

TEST(LatestCheckpoint, IsTheOneCommittedLastWhateverItsUpdate) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  testing::save_checkpoint(folder, 20, "a");
  testing::save_checkpoint(folder, 10, "b");
  folder.begin(30);
  EXPECT_EQ(latest_checkpoint(temp.path()), temp.path() / "update-000000010");
}

TEST(LatestCheckpoint, PassesOverADamagedManifestAndSaysSo) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto good = testing::save_checkpoint(folder, 1, "a");
  const auto bad = testing::save_checkpoint(folder, 2, "b");
  testing::write_bytes(bad.path / "manifest.json", "{}");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(latest_checkpoint(temp.path()), good.path);
  const std::string warning = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(warning, HasSubstr("update-000000002' is passed over: manifest"));
  EXPECT_EQ(std::count(warning.begin(), warning.end(), '\n'), 1);
}

TEST(BestCheckpoint, IsTheEarliestWithTheBestMetricOrNothing) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  testing::save_checkpoint(folder, 1, "a");
  EXPECT_FALSE(best_checkpoint(temp.path()));
  const auto low = testing::save_checkpoint(folder, 2, "b", 0.5);
  const auto high = testing::save_checkpoint(folder, 3, "c", 2.0);
  testing::save_checkpoint(folder, 4, "d", 0.5);
  testing::save_checkpoint(folder, 5, "e", 1.0);
  EXPECT_EQ(best_checkpoint(temp.path()), low.path);
  EXPECT_EQ(best_checkpoint(temp.path(), Better::kHigher), high.path);
  testing::write_bytes(low.path / "manifest.json", "{}");
  EXPECT_EQ(best_checkpoint(temp.path()), temp.path() / "update-000000004");
}

// Else a run would begin anew, and its checkpoints be taken for the latest.
TEST(LatestCheckpoint, OfWhatIsNoDirectoryIsAnError) {
  const TempDir temp;
  testing::write_bytes(temp.path() / "file", "");
  EXPECT_THROW(latest_checkpoint(temp.path() / "file"), FileError);
}

}  // namespace
}  // namespace torch_accelerated
