// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "trainer/trainer_state.h"
#include "trainer/training_snapshot.h"

namespace torch_accelerated {

/// The SyncBatchNorm layers of a Trainer's modules without the other ranks, until it is destroyed.
class SeparateNorms {
 public:
  explicit SeparateNorms(const TrainerState& state);
  ~SeparateNorms();
  SeparateNorms(const SeparateNorms&) = delete;
  SeparateNorms& operator=(const SeparateNorms&) = delete;

 private:
  std::vector<std::pair<SyncBatchNormImpl*, std::shared_ptr<SyncBatchNormGroup>>> groups_;
};

/// A Trainer that trains by itself, without other ranks and callbacks, until it is given back as it
/// was.
class LoneTrainer {
 public:
  /// @param alone  in a world of one process, on the Trainer's device.
  LoneTrainer(TrainerState& state, Accelerator& alone);
  ~LoneTrainer();
  LoneTrainer(const LoneTrainer&) = delete;
  LoneTrainer& operator=(const LoneTrainer&) = delete;

 private:
  TrainerState& state_;
  std::vector<TrainingSnapshot> snapshots_;
  SeparateNorms norms_;
  std::optional<RunConfig> config_;
  Progress progress_;
  bool initialised_;
  std::unique_ptr<History> history_;
  CallbackList callbacks_;
  Accelerator* accelerator_;
};

}  // namespace torch_accelerated
