// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <string>
#include <unordered_map>

#include "trainer/trainer_state.h"

namespace torch_accelerated {

using Parameters = std::unordered_map<const c10::TensorImpl*, std::string>;

/// Names of all trainable parameters; a tensor under two names counts once.
Parameters trainable_parameters(const TrainerState& state);

/// Whether it is a loader that an Accelerator has made for its ranks.
bool is_cut_among_ranks(const BatchSource* source, int ranks);

/// Rows of a micro-batch that `ranks` ranks train on together.
std::int64_t train_batch_rows(const TrainOptions& options, int ranks);

/// Rows of an evaluation's batch on each rank.
std::int64_t eval_batch_rows(const TrainOptions& options, int ranks);

}  // namespace torch_accelerated
