// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/finetuning/model_freezer.h"
#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

struct UnfreezeBackboneOptions {
  std::int64_t epoch = 2;                    ///< at whose start, from 1
  LayerRange groups = kBackbone;             ///< layer groups of the Trainer's model
  std::optional<double> learning_rate = {};  ///< of what is unfrozen; nothing: by the next
  double divide_rate_by = 10;                ///< the optimizer's own rate, that of its defaults()
  std::optional<std::int64_t> every_epochs = {};  ///< one group at a time, the last one first
  bool frozen_as_eval = false;                    ///< keeps what is frozen of `groups` in eval mode
};

/// Unfreezes a part of the Trainer's model when an epoch begins, and adds it to the Trainer's
/// optimizer with a learning rate of its own. Parameters that the optimizer holds already stay in
/// their group.
///
/// The part is frozen before, by ModelFreezer, and the optimizer best made from the freezer's
/// `trainable_parameters()`. A scheduler takes the new rate as the one that the part begins with.
/// What was unfrozen stays so in later runs.
/// @par Source  group by group: Howard and Ruder 2018 (arXiv:1801.06146), section 3.3.
class UnfreezeBackbone : public Callback {
 public:
  /// @throws ArgumentError  an epoch or interval < 1, a rate or divisor that is not positive. A
  ///                        range beyond the model is told when the run starts.
  explicit UnfreezeBackbone(const UnfreezeBackboneOptions& options = {});

  bool concerns_all_ranks() const override { return true; }
  std::string settings() const override;
  State state() const override;

  /// What had been unfrozen is unfrozen again, and added to the optimizer, when a run starts.
  void load_state(const State& state) override;

  void on_init_end(Trainer& trainer, const InitEnd& event) override;

  /// @throws ArgumentError  on all ranks: nothing is unfrozen yet, and `epoch` comes after the
  ///                        run's last.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) override;

 private:
  void check_epoch(const RunConfig& config) const;
  std::vector<LayerRange> stages(const Trainer& trainer) const;
  void unfreeze_stages(Trainer& trainer);

  UnfreezeBackboneOptions options_;
  std::int64_t unfrozen_ = 0;  // stages, also those of a loaded state
  std::int64_t done_ = 0;      // of them, in this process
};

}  // namespace torch_accelerated
