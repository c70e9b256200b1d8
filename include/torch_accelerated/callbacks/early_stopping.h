// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "torch_accelerated/callbacks/metric_watch.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// When EarlyStopping ends a run.
struct EarlyStoppingOptions {
  std::string metric = "eval_loss";
  std::int64_t patience = 1;  ///< epochs in a row without improvement; 1 stops at the first
  Better direction = Better::kLower;
  double min_delta = 0;           ///< an improvement is more than this
  double min_relative_delta = 0;  ///< and more than this share of the best's absolute value
  std::optional<double> stopping_threshold = {};  ///< stops at once when at least this good
  std::optional<double> divergence_threshold =
      {};                      ///< stops at once when at least this bad, or NaN
  bool reset_on_train = true;  ///< false: goes on from the run before
};

/// Requests a stop when a metric no longer improves, is good enough, or has run away.
///
/// Decides at the end of each epoch. A value that isn't finite is no improvement; an epoch without
/// the metric, as a stop leaves it, doesn't count.
class EarlyStopping : public Callback {
 public:
  /// @throws ArgumentError  options out of range or order, all told at once.
  explicit EarlyStopping(EarlyStoppingOptions options = {});

  /// The best value so far, by which the next is measured.
  const std::optional<EpochMetric>& best() const noexcept { return watch_.best(); }
  std::int64_t epochs_without_improvement() const noexcept { return waited_; }

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer&, const TrainStepStart&) override { loaded_ = false; }
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
  State state() const override;
  void load_state(const State& state) override;

 private:
  std::string reason_to_stop(const EpochMetric& found) const;

  EarlyStoppingOptions options_;
  MetricWatch watch_;
  std::int64_t waited_ = 0;
  // A state that the next run goes on from; what a run is given after its start is its own.
  bool loaded_ = false;
};

}  // namespace torch_accelerated
