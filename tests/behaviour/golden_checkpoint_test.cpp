// SPDX-License-Identifier: Apache-2.0
// Checkpoints of every format that was ever written stay in tests/checkpoint/golden and are read.
// TORCH_ACCELERATED_WRITE_GOLDEN=FOLDER writes one of the present format there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <filesystem>

#include "support/resumable_run.h"
#include "support/temp_dir.h"

namespace tests {
namespace {

using torch_accelerated::testing::TempDir;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "checkpoint/golden" / name;
}

TEST(GoldenCheckpoint, OfFormat1IsGoneOnWith) {
  const TempDir whole_folder;
  ResumableRun whole(whole_folder.path());
  whole.train();
  const TempDir folder;
  ResumableRun again(folder.path());
  const auto result = again.train(golden("format-1"));
  EXPECT_EQ(result.progress.update, 15);
  // Another processor may round otherwise.
  EXPECT_LT(relative_difference(*again.net(), *whole.net()), 1e-9);
  EXPECT_EQ(again.trainer().history().rows().size(), whole.trainer().history().rows().size());
}

TEST(GoldenCheckpoint, IsWrittenWhereAsked) {
  const char* target = std::getenv("TORCH_ACCELERATED_WRITE_GOLDEN");
  if (target == nullptr) GTEST_SKIP() << "skipped: TORCH_ACCELERATED_WRITE_GOLDEN names no folder";
  const TempDir folder;
  ResumableRun cut(folder.path());
  cut.stop_after(7);
  cut.train();
  std::filesystem::copy(*ta::latest_checkpoint(folder.path() / "checkpoints"), target,
                        std::filesystem::copy_options::recursive);
}

}  // namespace
}  // namespace tests
