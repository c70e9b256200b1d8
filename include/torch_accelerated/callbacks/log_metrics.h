// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Prints one line of metrics after each epoch, and after an evaluation without training.
class LogMetrics : public Callback {
 public:
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_evaluation_run_end(Trainer& trainer, const EvaluationRunEnd& event) override;
};

}  // namespace torch_accelerated
