// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Shows how far an epoch or an evaluation has come, on stderr and in the main process only; draws
/// nothing where stderr is no terminal.
class ProgressBar : public Callback {
 public:
  ProgressBar();
  ProgressBar(ProgressBar&&) noexcept;
  ~ProgressBar() override;  ///< leaves the terminal on a fresh line, also after an exception

  void on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_eval_epoch_start(Trainer& trainer, const EvalEpochStart& event) override;
  void on_eval_step_end(Trainer& trainer, const EvalStepEnd& event) override;
  void on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) override;
  void on_stop_training_error(Trainer& trainer, const StopTrainingError& event) override;

 private:
  class Line;
  std::unique_ptr<Line> training_;
  std::unique_ptr<Line> evaluation_;  // in the place of the other for as long as it is open
};

}  // namespace torch_accelerated
