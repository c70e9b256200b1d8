// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint_files.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/core/state.h"
#include "torch_accelerated/trainer/options.h"

namespace torch_accelerated {

struct TrainerState;

/// A run as a checkpoint has it, given back piece by piece while the new one is set up.
///
/// What a callback does in events that announce the run or the epoch once more doesn't count: its
/// state is given back after them. All of it throws a CheckpointError that names what doesn't fit.
class Resumption {
 public:
  /// Reads all but the weights.
  /// @throws CheckpointError  it is damaged, or its position is none that a run can have.
  explicit Resumption(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const noexcept { return saved_.folder(); }

  /// On another number of ranks the checkpoint's rows of an update hold.
  void fit(TrainOptions& options, const Accelerator& accelerator) const;

  /// Weights, history, progress and callbacks, once the run is known to be the checkpoint's.
  void give_modules(TrainerState& state) const;

  /// Refuses another model, and a run that is another than the checkpoint's, field by field; or
  /// tells of it.
  void check_config(const TrainerState& state) const;

  /// Optimizers and schedulers, whose param groups callbacks may have added in the run's first
  /// event.
  void give_optimizers(TrainerState& state) const;

  /// Whether the checkpoint was taken within an epoch, also after its last update.
  bool in_epoch() const;

  /// Sums of the epoch and the place in the source, where it can be told one.
  void give_position(TrainerState& state) const;

  /// Callbacks and random generators, after the events that announce again.
  void give_observers(TrainerState& state) const;

 private:
  bool on_as_many_ranks(const TrainerState& state) const;
  void check_position() const;
  void give_buffers(const TrainerState& state) const;

  SavedCheckpoint saved_;
  State rest_;
  State optimizers_;
  State position_;
};

/// The checkpoint that the options name, chosen by the main process: it itself, or the newest
/// undamaged one before it where the options let it. Collective; null where they name none.
std::unique_ptr<Resumption> open_resumption(const TrainOptions& options, Accelerator& accelerator);

}  // namespace torch_accelerated
