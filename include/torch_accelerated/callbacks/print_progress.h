// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Prints what a run will do at its start, a line at the start of each epoch, and how it ended.
class PrintProgress : public Callback {
 public:
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) override;
  void on_stop_training_error(Trainer& trainer, const StopTrainingError& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
};

}  // namespace torch_accelerated
