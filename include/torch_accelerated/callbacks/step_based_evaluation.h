// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// When StepBasedEvaluation evaluates, and on how much.
struct StepBasedEvaluationOptions {
  std::int64_t every_updates = 0;                  ///< required
  std::optional<std::int64_t> limit_batches = {};  ///< nothing: as the run's other evaluations
  std::string prefix = "intermediate_eval_";       ///< of its metrics, such as ..._loss
};

/// Evaluates on the run's evaluation dataset after every n-th update, also within an epoch.
///
/// What it finds stands in a row of its own in the history; after an update that the epoch's end
/// makes, of a window that was still open, in the epoch's row. Modules have their modes back after
/// it.
class StepBasedEvaluation : public Callback {
 public:
  /// @throws ArgumentError  numbers below 1, or a prefix that other evaluations have.
  explicit StepBasedEvaluation(StepBasedEvaluationOptions options);

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  std::vector<std::string> metric_names(const Trainer& trainer) const override;

  /// @throws ArgumentError  on all ranks: the run has no evaluation dataset.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;

 private:
  void after_update(Trainer& trainer, std::int64_t updates) const;

  StepBasedEvaluationOptions options_;
};

}  // namespace torch_accelerated
