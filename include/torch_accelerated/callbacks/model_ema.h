// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/callbacks/metric_watch.h"
#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// How ModelEma averages, and what becomes of the average.
struct ModelEmaOptions {
  double decay = 0.9999;             ///< share of the average that each step keeps, in [0, 1]
  bool warmup = false;               ///< a smaller decay in the first steps; see ema_decay
  std::int64_t every_updates = 1;    ///< one step of the average after so many updates
  bool evaluate = true;              ///< beside the model, after each epoch
  std::string prefix = "ema_eval_";  ///< of its metrics, such as ema_eval_loss
  std::optional<std::string> keep_best = {};  ///< a metric; the average of its best epoch is kept
  Better direction = Better::kLower;          ///< of `keep_best`
  bool replace_at_end = false;  ///< puts the best or else the newest average into the model
};

/// The decay of step `step`, from 0: min(decay, (1 + step) / (10 + step)) with a warm-up.
/// @par Source  the num_updates argument of TensorFlow's ExponentialMovingAverage.
double ema_decay(std::int64_t step, const ModelEmaOptions& options) noexcept;

/// Keeps an exponential moving average of the model's parameters and buffers.
///
/// average = decay average + (1 - decay) model, once for each update that changed the weights;
/// entries that aren't floating point are copied, halves are averaged in float32. A run begins with
/// the model as the average. Evaluated on the run's evaluation dataset, if there is one, with the
/// averages in the model's place for as long as that takes. On several ranks each averages its own
/// replica, and all have the same bits where the replicas do.
class ModelEma : public Callback {
 public:
  /// @throws ArgumentError  options out of range, all told at once.
  explicit ModelEma(ModelEmaOptions options = {});

  /// The newest average by the model's names, on its device; empty before the first run.
  const TensorDict& averages() const noexcept { return averages_; }

  /// The same at the best value of `keep_best`, in the host's memory; empty before the first.
  const TensorDict& best_averages() const noexcept { return best_averages_; }
  const std::optional<EpochMetric>& best() const noexcept { return watch_.best(); }

  /// Puts the best average, or else the newest, into another module of the model's kind.
  /// @throws StateError  there is none yet, or names or shapes differ.
  void copy_to(torch::nn::Module& module) const;

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  std::vector<std::string> metric_names(const Trainer& trainer) const override;
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer&, const TrainStepStart&) override { loaded_ = false; }
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) override;
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
  State state() const override;
  void load_state(const State& state) override;

 private:
  void follow(const Trainer& trainer);

  ModelEmaOptions options_;
  MetricWatch watch_;  // of `keep_best`
  TensorDict model_;   // its own tensors
  TensorDict averages_;
  TensorDict best_averages_;
  std::int64_t updates_ = 0;  // of the run that have changed the weights
  std::int64_t steps_ = 0;    // of the average
  // A state that the next run goes on from; what a run is given after its start is its own.
  bool loaded_ = false;
};

}  // namespace torch_accelerated
