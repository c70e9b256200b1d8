// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "torch_accelerated/callbacks/metric_watch.h"
#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// What SaveBestModel watches.
struct SaveBestModelOptions {
  std::string metric = "eval_loss";
  Better direction = Better::kLower;
  bool reload_at_end = true;   ///< puts the best weights into the model when the run ends
  bool reset_on_train = true;  ///< false: a run's weights have to beat those of the run before
};

/// Keeps the model's parameters and buffers from the end of the epoch in which a metric was best,
/// in the host's memory.
///
/// A value that isn't finite is never the best. The optimizer's state stays the last update's.
class SaveBestModel : public Callback {
 public:
  /// @throws ArgumentError  an empty name.
  explicit SaveBestModel(SaveBestModelOptions options = {});

  /// The best value so far, nothing before the first.
  const std::optional<EpochMetric>& best() const noexcept { return watch_.best(); }

  /// What the model had then, by name; empty before the first.
  const TensorDict& best_weights() const noexcept { return best_weights_; }

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer&, const TrainStepStart&) override { loaded_ = false; }
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
  State state() const override;
  void load_state(const State& state) override;

 private:
  SaveBestModelOptions options_;
  MetricWatch watch_;
  TensorDict best_weights_;
  // A state that the next run goes on from; what a run is given after its start is its own.
  bool loaded_ = false;
};

}  // namespace torch_accelerated
