// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Requests a stop when a run has lasted for some time, by the main process's clock.
///
/// The clock begins with the run, goes on with one that goes on from a state, and is read at the
/// end of each micro-batch.
class MaxTime : public Callback {
 public:
  /// @param limit  such as std::chrono::minutes(90).
  /// @throws ArgumentError  it isn't positive.
  explicit MaxTime(std::chrono::milliseconds limit);

  bool concerns_all_ranks() const override { return true; }
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer&, const TrainStepStart&) override { loaded_ = false; }
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  State state() const override;
  void load_state(const State& state) override;

 private:
  using Clock = std::chrono::steady_clock;

  Clock::duration lasted() const;

  std::chrono::milliseconds limit_;
  std::optional<Clock::time_point> began_;  // by the run in progress
  Clock::duration before_{0};               // lasted by the state that was loaded
  // A state that the next run goes on from; what a run is given after its start is its own.
  bool loaded_ = false;
};

}  // namespace torch_accelerated
