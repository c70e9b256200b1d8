// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "checkpoint/checkpoint_files.h"
#include "checkpoint/optimizer_state.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {

// What a run keeps in a checkpoint; resumption.h is the way back.

/// The parameters and buffers of all modules, each under one name.
/// @throws ArgumentError  two tensors have one name.
TensorDict module_tensors(const TrainerState& state);

/// The buffers alone, under the same names.
TensorDict module_buffers(const TrainerState& state);

/// The names of all parameters, also those that don't train.
ParameterNames parameter_names(const TrainerState& state);

/// What all ranks have alike, at an update's boundary. Tensors are shared with the run.
CheckpointContents run_contents(TrainerState& state);

/// What this rank alone has: random generators, sums of the epoch in progress and, but on the main
/// process, buffers.
TensorDict rank_contents(TrainerState& state);

/// Everything in it can be saved, or an error says what can't.
/// @throws ArgumentError
void check_can_be_saved(TrainerState& state);

State history_state(const History& history);
std::vector<HistoryRow> history_rows(const State& state);

}  // namespace torch_accelerated
