// SPDX-License-Identifier: Apache-2.0
// Checkpoints of every format that was ever written stay in tests/checkpoint/golden and are read.
// TORCH_ACCELERATED_WRITE_GOLDEN=FOLDER also keeps the one that is written here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "checkpoint/state_text.h"
#include "support/file_bytes.h"
#include "support/resumable_run.h"
#include "support/temp_dir.h"

namespace tests::golden_checkpoint_test {
namespace {

using torch_accelerated::testing::names_in;
using torch_accelerated::testing::TempDir;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "checkpoint/golden" / name;
}

// The names in state.json; those of the run's table apart, to which a version may add fields, as
// only those that both have are compared.
struct Keys {
  explicit Keys(const std::filesystem::path& checkpoint) {
    const auto file = checkpoint / "state.json";
    for (const auto& [name, value] :
         ta::parse_state_text(torch_accelerated::testing::read_bytes(file), file.string())) {
      (name.starts_with("config/") ? of_table : others).insert(name);
    }
  }
  std::set<std::string> of_table;
  std::set<std::string> others;
};

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

// A file that comes or goes, or a name that goes, is another format, which needs a number and a
// golden folder of its own.
TEST(GoldenCheckpoint, OfThePresentFormatHasTheFilesAndNamesThatAreWrittenNow) {
  const TempDir folder;
  ResumableRun cut(folder.path());
  cut.stop_after(7);
  cut.train();
  const auto written = ta::latest_checkpoint(folder.path() / "checkpoints");
  ASSERT_TRUE(written.has_value());
  EXPECT_EQ(names_in(*written), names_in(golden("format-1")));
  const Keys before(golden("format-1"));
  const Keys now(*written);
  EXPECT_THAT(now.others, testing::IsSupersetOf(before.others));
  EXPECT_THAT(now.of_table, testing::IsSupersetOf(before.of_table));
  if (const char* target = std::getenv("TORCH_ACCELERATED_WRITE_GOLDEN")) {
    std::filesystem::copy(*written, target, std::filesystem::copy_options::recursive);
  }
}

}  // namespace
}  // namespace tests::golden_checkpoint_test
