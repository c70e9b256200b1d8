// SPDX-License-Identifier: Apache-2.0
// One rank's disk is full: what becomes of the checkpoint, on all ranks.
#include <gmock/gmock.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/found_checkpoint.h"
#include "ranks/shared_folder.h"
#include "support/file_bytes.h"
#include "support/file_size_limit.h"
#include "support/saving_run.h"

namespace tests::checkpoint_failure_ranks_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using torch_accelerated::testing::FileSizeLimit;
using torch_accelerated::testing::names_in;

constexpr const char* kFirst = "update-000000002";

/// A loop of the program's own, whose checkpoints are or aren't written beside it.
class SaveFailuresOnRanks : public testing::TestWithParam<bool> {
 protected:
  SaveFailuresOnRanks() : folder_(ranks_), saving_(folder_.path(), tiny_net(), &ranks_) {
    saving_.options.checkpoints.asynchronous = GetParam();
    told_ = saving_.trainer.callbacks().add(AtUpdate(-1, {})).told;
  }

  void step(Saving& saving) {
    const auto update = static_cast<std::uint64_t>(saving.trainer.progress().update);
    saving.trainer.step(tiny_batch(2, 10 * update + static_cast<std::uint64_t>(ranks_.rank())));
  }
  void step() { step(saving_); }

  // Until the checkpoint of update 2 is there.
  void begin() {
    saving_.trainer.start(saving_.options);
    step();
    step();
    saving_.trainer.save_checkpoint();
    while (told_->empty()) step();
    step();  // a place of which there is no checkpoint yet
  }

  // From now on, no file of the last rank grows beyond this.
  void fill_disk_of_last_rank() {
    if (ranks_.rank() == ranks_.world_size() - 1) full_.emplace(256);
  }

  void expect_first_is_whole() {
    ranks_.barrier();
    const auto path = folder_.checkpoints() / kFirst;
    EXPECT_NO_THROW(ta::check_files({path, ta::read_manifest(path)}, /*contents=*/true));
    Saving again(folder_.path(), tiny_net(3), &ranks_);
    again.options.resume_from = path;
    again.trainer.start(again.options);
    EXPECT_EQ(again.trainer.progress().update, 2);
    step(again);
    again.trainer.finish();
  }

  ta::Accelerator ranks_;
  SharedFolder folder_;
  Saving saving_;
  std::shared_ptr<std::vector<std::int64_t>> told_;
  std::optional<FileSizeLimit> full_;
};

INSTANTIATE_TEST_SUITE_P(Asynchronous, SaveFailuresOnRanks, testing::Bool());

TEST_P(SaveFailuresOnRanks, OfOneAreFileErrorsOnAllAndLeaveTheCheckpointBefore) {
  begin();
  fill_disk_of_last_rank();
  const auto failed = saving_.trainer.progress().update;
  const auto text = message_of<ta::FileError>([&] {
    saving_.trainer.save_checkpoint();
    step();
    saving_.trainer.save_checkpoint();  // which waits for the one before
  });
  full_.reset();
  EXPECT_THAT(text, AllOf(HasSubstr(ta::concat("the checkpoint of update ", failed, " couldn't")),
                          HasSubstr(ta::concat("rank-0000", ranks_.world_size() - 1, ".safe"))));
  EXPECT_THAT(ranks_.gather_objects(text), Each(text));
  EXPECT_THAT(names_in(folder_.checkpoints()), ElementsAre("lock", kFirst));
  EXPECT_THAT(*told_, ElementsAre(2));
  expect_first_is_whole();
}

TEST_P(SaveFailuresOnRanks, OfOneMayBeWarningsAndAllGoOnAndSaveAgain) {
  saving_.options.checkpoints.on_failure = ta::SaveFailure::kWarn;
  begin();
  fill_disk_of_last_rank();
  const auto failed = ta::checkpoint_folder_name({.update = saving_.trainer.progress().update});
  saving_.trainer.save_checkpoint();
  while (ranks_.any(fs::exists(folder_.checkpoints() / failed))) step();  // until it is given up
  full_.reset();
  EXPECT_THAT(names_in(folder_.checkpoints()), ElementsAre("lock", kFirst));
  step();
  const auto next = saving_.trainer.progress().update;
  saving_.trainer.save_checkpoint();
  step();
  EXPECT_EQ(saving_.trainer.finish().progress.update, next + 1);
  EXPECT_THAT(*told_, ElementsAre(2, next));
  EXPECT_THAT(committed(folder_.checkpoints()),
              ElementsAre(kFirst, ta::checkpoint_folder_name({.update = next})));
  expect_first_is_whole();
}

}  // namespace
}  // namespace tests::checkpoint_failure_ranks_test
