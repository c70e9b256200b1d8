// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// When SaveCheckpoints saves; several may be given.
struct SaveCheckpointsOptions {
  std::optional<std::int64_t> every_epochs = {};
  std::optional<std::int64_t> every_updates = {};
  std::optional<std::chrono::seconds> every = {};  ///< of time, by the main process's clock
  bool at_end = true;                              ///< also where the run is stopped
};

/// Saves checkpoints of the run into `TrainOptions::checkpoints.directory`, which also says how
/// many are kept. Those of earlier runs in the same directory count.
class SaveCheckpoints : public Callback {
 public:
  /// @throws ArgumentError  intervals below 1, all told at once.
  explicit SaveCheckpoints(SaveCheckpointsOptions options = {});

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;

  /// @throws ArgumentError  the run has no checkpoints.directory.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_stop_training_error(Trainer& trainer, const StopTrainingError& event) override;

 private:
  void after_update(Trainer& trainer, std::int64_t updates);

  SaveCheckpointsOptions options_;
  std::chrono::steady_clock::time_point last_;  // when time asked for one
};

}  // namespace torch_accelerated
