// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Prints one line of metrics after each epoch, after an evaluation without training, and for each
/// row of an intermediate evaluation.
class LogMetrics : public Callback {
 public:
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_evaluation_run_end(Trainer& trainer, const EvaluationRunEnd& event) override;

 private:
  void print_intermediate(Trainer& trainer);

  std::size_t rows_ = 0;  // of the history that have been looked at
};

}  // namespace torch_accelerated
