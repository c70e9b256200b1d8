// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <memory>
#include <vector>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Ends the run cleanly when the process gets a signal: all ranks stop at the same update, which is
/// saved where the run keeps checkpoints, and `train` returns with the reason.
///
/// The handler only sets a flag; it is there while a run is going on, and what was there before is
/// given back; after a run that an exception ended, by the next run or the end of this object. A
/// second signal ends the process at once, as if there were no handler. An evaluation of a run that
/// keeps checkpoints is finished before, any other is cut short.
class StopOnSignal : public Callback {
 public:
  explicit StopOnSignal(std::vector<int> signals = {SIGTERM, SIGINT, SIGUSR1});
  StopOnSignal(StopOnSignal&&) noexcept;
  ~StopOnSignal() override;

  bool concerns_all_ranks() const override { return true; }

  /// @throws StateError  another StopOnSignal is at work in this process.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer& trainer, const TrainStepStart& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_eval_step_start(Trainer& trainer, const EvalStepStart& event) override;
  void on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;

 private:
  class Handlers;

  void look(Trainer& trainer);

  std::vector<int> signals_;
  std::unique_ptr<Handlers> handlers_;  // during a run
};

}  // namespace torch_accelerated
