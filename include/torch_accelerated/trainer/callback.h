// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "torch_accelerated/core/stateful.h"
#include "torch_accelerated/trainer/events.h"

namespace torch_accelerated {

class Trainer;

/// Observes a run through fifteen events and may request, such as `trainer.request_stop(...)`;
/// whatever changes a run's numbers is an option of the run instead.
///
/// Callbacks are called in the thread that trains, in the order in which they were added. What one
/// throws ends the run.
class Callback : public Stateful {
 public:
  /// What it is known by, unique in a list and the key of its state, the same on all ranks; the
  /// type's name unless overridden.
  virtual std::string name() const;

  /// Whether all ranks must have it: one that requests something of the run, or that keeps state.
  /// One that only observes may be on some ranks only.
  virtual bool concerns_all_ranks() const { return false; }

  /// What decides how it acts, in words; for a callback that concerns all ranks it has to be the
  /// same on all of them, which is looked at before the first update.
  virtual std::string settings() const { return {}; }

  /// Metrics that it adds to the rows of the history, so that others may name them.
  virtual std::vector<std::string> metric_names(const Trainer&) const { return {}; }

  virtual void on_init_end(Trainer&, const InitEnd&) {}
  virtual void on_training_run_start(Trainer&, const TrainingRunStart&) {}
  virtual void on_train_epoch_start(Trainer&, const TrainEpochStart&) {}
  virtual void on_train_step_start(Trainer&, const TrainStepStart&) {}
  virtual void on_train_step_end(Trainer&, const TrainStepEnd&) {}
  virtual void on_train_epoch_end(Trainer&, const TrainEpochEnd&) {}
  virtual void on_eval_epoch_start(Trainer&, const EvalEpochStart&) {}
  virtual void on_eval_step_start(Trainer&, const EvalStepStart&) {}
  virtual void on_eval_step_end(Trainer&, const EvalStepEnd&) {}
  virtual void on_eval_epoch_end(Trainer&, const EvalEpochEnd&) {}
  virtual void on_training_run_epoch_end(Trainer&, const TrainingRunEpochEnd&) {}
  virtual void on_training_run_end(Trainer&, const TrainingRunEnd&) {}
  virtual void on_evaluation_run_start(Trainer&, const EvaluationRunStart&) {}
  virtual void on_evaluation_run_end(Trainer&, const EvaluationRunEnd&) {}
  virtual void on_stop_training_error(Trainer&, const StopTrainingError&) {}
};

}  // namespace torch_accelerated
