// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "torch_accelerated/schedulers/wsd.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Keeps both ends of the decay of a warm-up, stable, decay schedule: a checkpoint of the update at
/// which the decay begins, and the weights at its end as
/// "decayed-update-<update>.safetensors" in the same directory.
///
/// A longer run goes on from the first (`resume_from` with `resume_with_changes`), as if the decay
/// had never been; another training goes on from the second (`load_weights`). The checkpoint stays
/// whatever `keep_newest` says.
class WSDCheckpoint : public Callback {
 public:
  /// @param schedule  the options that `wsd` was given.
  explicit WSDCheckpoint(WsdOptions schedule);

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;

  /// @throws ArgumentError  the run has no checkpoints.directory, no known length or no decay.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;

 private:
  void after_update(Trainer& trainer, std::int64_t updates) const;

  WsdOptions schedule_;
  std::int64_t decay_begin_ = 0;  // updates before it
  std::int64_t decay_end_ = 0;
};

}  // namespace torch_accelerated
