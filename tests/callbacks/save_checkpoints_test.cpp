// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/saving_run.h"

namespace tests::save_checkpoints_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
using torch_accelerated::testing::TempDir;

TEST(SaveCheckpoints, SavesEveryNUpdatesEveryNEpochsAndAtTheEnd) {
  const TempDir updates;
  Saving by_updates(updates.path());
  by_updates.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 3, .at_end = false}));
  by_updates.train();
  EXPECT_THAT(committed(updates), ElementsAre("update-000000003", "update-000000006"));

  const TempDir epochs;
  Saving by_epochs(epochs.path());
  by_epochs.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
  by_epochs.train();
  EXPECT_THAT(committed(epochs), ElementsAre("update-000000004", "update-000000008"));

  const TempDir end;
  Saving at_end(end.path());
  at_end.trainer.callbacks().add(ta::SaveCheckpoints());
  at_end.train();
  EXPECT_THAT(committed(end), ElementsAre("update-000000008"));
}

TEST(SaveCheckpoints, SavesTheUpdateOfAWindowThatTheEpochsEndCloses) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 2, .at_end = false}));
  saving.options.gradient_accumulation_steps = 2;
  saving.trainer.start(saving.options);
  for (std::uint64_t i = 0; i < 3; ++i) saving.trainer.step(tiny_batch(2, i));
  saving.trainer.finish();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000002"));
}

TEST(SaveCheckpoints, KeepsTheNewestAndTheBestAlsoOfEarlierRuns) {
  const TempDir folder;
  for (int run = 0; run < 2; ++run) {
    Saving saving(folder.path());
    saving.options.checkpoints.keep_newest = 1;
    saving.options.checkpoints.keep_best = 1;
    saving.options.checkpoints.metric = "train_loss";
    saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
    saving.train();
  }
  // The second run gives the same numbers: the first of equals is the best, the last the newest.
  EXPECT_THAT(committed(folder), ElementsAre("update-000000008", "update-000000008-2"));
}

TEST(SaveCheckpoints, NeedsADirectoryAndAnOccasion) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.directory.clear();
  saving.trainer.callbacks().add(ta::SaveCheckpoints());
  EXPECT_THAT([&] { saving.train(); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("keeps no checkpoints")));
  EXPECT_THAT([] { ta::SaveCheckpoints({.every_updates = 0, .at_end = false}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("every_updates must be >= 1, got 0")));
  EXPECT_THAT([] { ta::SaveCheckpoints({.at_end = false}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("never save")));
}

}  // namespace
}  // namespace tests::save_checkpoints_test
