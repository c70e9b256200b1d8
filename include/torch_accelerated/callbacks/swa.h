// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Which epochs Swa averages, and what becomes of the average.
struct SwaOptions {
  std::optional<std::int64_t> start_epoch = {};  ///< the first one averaged, from 1
  double start_fraction = 0.75;      ///< of the epochs that come before it, where it isn't given
  std::int64_t every_epochs = 1;     ///< from it on
  bool evaluate = false;             ///< beside the model, after each epoch from the first one on
  std::string prefix = "swa_eval_";  ///< of its metrics, such as swa_eval_loss
  bool replace_at_end = true;        ///< puts the average into the model
  Dataset batch_norm_dataset = {};   ///< required where the model has BatchNorm layers
  std::int64_t batch_norm_batch_size = 64;
};

/// Stochastic weight averaging: the plain mean of the model's parameters at the ends of epochs.
///
/// Buffers are the newest model's, but for the running statistics of BatchNorm layers: before the
/// average is evaluated or put into the model, they are recomputed by running it, in eval mode but
/// for those layers, over `batch_norm_dataset`, which all ranks do over the whole of it. Batches
/// weigh alike; a short last one is left out. The learning rate is the scheduler's business.
/// @par Source  Izmailov et al. 2018 (arXiv:1803.05407), algorithm 1.
class Swa : public Callback {
 public:
  /// @throws ArgumentError  options out of range, all told at once.
  explicit Swa(SwaOptions options = {});

  /// The average of the parameters by name, and the buffers that belong to it; empty before the
  /// first epoch that is averaged.
  TensorDict averages() const;
  std::int64_t averaged_epochs() const noexcept { return count_; }

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  std::vector<std::string> metric_names(const Trainer& trainer) const override;

  /// @throws ArgumentError  on all ranks: the first epoch to average comes after the last, or there
  ///                        are BatchNorm layers and no dataset for them.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer&, const TrainStepStart&) override { loaded_ = false; }
  void on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) override;
  void on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;
  State state() const override;
  void load_state(const State& state) override;

 private:
  void check_run(const Trainer& trainer) const;
  void adopt_loaded();
  void refresh_statistics(const Trainer& trainer);

  SwaOptions options_;
  std::int64_t first_epoch_ = 1;
  TensorDict parameters_;  // the model's own
  TensorDict buffers_;
  TensorDict average_;  // of the parameters
  TensorDict average_buffers_;
  std::int64_t count_ = 0;            // epochs in the average
  bool statistics_are_fresh_ = true;  // those of the average
  // A state that the next run goes on from; what a run is given after its start is its own.
  bool loaded_ = false;
};

}  // namespace torch_accelerated
