// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "support/saving_run.h"

namespace tests::wsd_checkpoint_test {
namespace {

using testing::ElementsAre;
using torch_accelerated::testing::TempDir;

TEST(WSDCheckpoint, KeepsBothEndsOfTheDecayAndALongerRunGoesOnFromTheFirst) {
  const ta::WsdOptions schedule{.decay_updates = 3};
  const TempDir folder;
  Saving decayed(folder.path());
  decayed.options.scheduler = ta::wsd(schedule);
  decayed.options.checkpoints.keep_newest = 1;
  decayed.trainer.callbacks().add(ta::WSDCheckpoint(schedule));
  decayed.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 1}));
  decayed.train();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000005", "update-000000008-2"));
  auto loaded = tiny_net(99);
  ta::load_weights(*loaded, folder.path() / "checkpoints/decayed-update-000000008.safetensors");
  EXPECT_TRUE(equal_bits(*loaded, *decayed.net));

  const TempDir longer_folder;
  Saving longer(longer_folder.path());
  longer.options.num_epochs = 4;
  longer.options.scheduler = ta::wsd(schedule);
  longer.train();
  Saving from_before(folder.path());
  from_before.options.num_epochs = 4;
  from_before.options.scheduler = ta::wsd(schedule);
  from_before.options.resume_with_changes = true;
  from_before.train(folder.path() / "checkpoints/update-000000005");
  EXPECT_TRUE(equal_bits(*from_before.net, *longer.net));
}

TEST(WSDCheckpoint, KeepsTheUpdateOfAWindowThatTheEpochsEndCloses) {
  const TempDir folder;
  Saving saving(folder.path());
  // The decay would begin after the second update, which the epoch's end makes.
  saving.trainer.callbacks().add(ta::WSDCheckpoint({.decay_updates = 3, .total_updates = 5}));
  saving.options.gradient_accumulation_steps = 2;
  saving.trainer.start(saving.options);
  for (std::uint64_t i = 0; i < 3; ++i) saving.trainer.step(tiny_batch(2, i));
  saving.trainer.finish();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000002"));
}

}  // namespace
}  // namespace tests::wsd_checkpoint_test
