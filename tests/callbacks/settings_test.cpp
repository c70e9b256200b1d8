// SPDX-License-Identifier: Apache-2.0
// What ranks compare of their callbacks before a run.
#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "support/tiny.h"

namespace tests::settings_test {
namespace {

template <class... Callbacks>
void expect_all_differ(const Callbacks&... callbacks) {
  const std::vector<std::string> all = {callbacks.settings()...};
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), all.size())
      << testing::PrintToString(all);
}

TEST(CallbackSettings, SayWhatIsWatched) {
  using ta::EarlyStopping;
  expect_all_differ(
      EarlyStopping(), EarlyStopping({.metric = "train_loss"}), EarlyStopping({.patience = 2}),
      EarlyStopping({.direction = ta::Better::kHigher}), EarlyStopping({.min_delta = 0.1}),
      EarlyStopping({.min_relative_delta = 0.1}), EarlyStopping({.stopping_threshold = 0.5}),
      EarlyStopping({.divergence_threshold = 0.5}), EarlyStopping({.reset_on_train = false}));
  using ta::SaveBestModel;
  expect_all_differ(SaveBestModel(), SaveBestModel({.metric = "train_loss"}),
                    SaveBestModel({.direction = ta::Better::kHigher}),
                    SaveBestModel({.reload_at_end = false}),
                    SaveBestModel({.reset_on_train = false}));
  EXPECT_EQ(SaveBestModel().settings(),
            "metric eval_loss, direction lower, reload_at_end yes, reset_on_train yes");
}

TEST(CallbackSettings, SayWhatIsAveraged) {
  using ta::ModelEma;
  // The second differs from the first in its last bit alone.
  expect_all_differ(
      ModelEma(), ModelEma({.decay = std::nextafter(0.9999, 1)}), ModelEma({.warmup = true}),
      ModelEma({.every_updates = 2}), ModelEma({.evaluate = false}),
      ModelEma({.prefix = "average_"}), ModelEma({.keep_best = "eval_loss"}),
      ModelEma({.direction = ta::Better::kHigher}), ModelEma({.replace_at_end = true}));
  using ta::Swa;
  expect_all_differ(Swa(), Swa({.start_epoch = 2}), Swa({.start_fraction = 0.5}),
                    Swa({.every_epochs = 2}), Swa({.evaluate = true}), Swa({.prefix = "average_"}),
                    Swa({.replace_at_end = false}), Swa({.batch_norm_dataset = tiny_batch(4)}),
                    Swa({.batch_norm_batch_size = 32}));
}

TEST(CallbackSettings, SayWhenSomethingIsDone) {
  using ta::StepBasedEvaluation;
  expect_all_differ(StepBasedEvaluation({.every_updates = 1}),
                    StepBasedEvaluation({.every_updates = 2}),
                    StepBasedEvaluation({.every_updates = 1, .limit_batches = 1}),
                    StepBasedEvaluation({.every_updates = 1, .prefix = "step_"}));
  using ta::UnfreezeBackbone;
  expect_all_differ(
      UnfreezeBackbone(), UnfreezeBackbone({.epoch = 3}), UnfreezeBackbone({.groups = {.from = 1}}),
      UnfreezeBackbone({.groups = {.to = -3}}), UnfreezeBackbone({.learning_rate = 0.1}),
      UnfreezeBackbone({.divide_rate_by = 5}), UnfreezeBackbone({.every_epochs = 1}),
      UnfreezeBackbone({.frozen_as_eval = true}));
  using ta::SaveCheckpoints;
  expect_all_differ(SaveCheckpoints(), SaveCheckpoints({.every_epochs = 1}),
                    SaveCheckpoints({.every_updates = 1}),
                    SaveCheckpoints({.every_updates = 1, .at_end = false}));
  using ta::WSDCheckpoint;
  expect_all_differ(WSDCheckpoint(ta::WsdOptions()), WSDCheckpoint({.decay_updates = 2}),
                    WSDCheckpoint({.total_updates = 2}));
}

// The main process's clock alone counts, and programs work such a time out from clocks.
TEST(CallbackSettings, LeaveOutWhatTheMainProcessDecidesAlone) {
  EXPECT_EQ(ta::MaxTime(std::chrono::seconds(60)).settings(),
            ta::MaxTime(std::chrono::seconds(61)).settings());
  EXPECT_EQ(ta::SaveCheckpoints({.every = std::chrono::seconds(60)}).settings(),
            ta::SaveCheckpoints({.every = std::chrono::seconds(61)}).settings());
}

}  // namespace
}  // namespace tests::settings_test
