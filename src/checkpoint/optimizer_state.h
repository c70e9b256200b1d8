// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <unordered_map>

#include "torch_accelerated/core/state.h"
#include "torch_accelerated/core/torch_forward.h"

namespace c10 {
struct TensorImpl;
}

namespace torch_accelerated {

/// What parameters are called in the state of an optimizer.
using ParameterNames = std::unordered_map<const c10::TensorImpl*, std::string>;

/// The type of an optimizer for messages and files, such as "AdamW".
std::string type_name(const torch::optim::Optimizer& optimizer);

/// Options and parameters of each group, and what has been kept for each parameter, by its name.
/// Tensors are shared with the optimizer, counts are int64 tensors without dimensions.
///
/// @throws ArgumentError  it is none of LibTorch's six and doesn't implement Stateful.
State optimizer_state(torch::optim::Optimizer& optimizer, const ParameterNames& names);

/// Gives an optimizer over the same parameters a state back, which lends its tensors to it.
///
/// @param what  starts the messages.
/// @throws CheckpointError  another type of optimizer, other groups, or a tensor of another shape;
///                          nothing has changed then.
void load_optimizer_state(torch::optim::Optimizer& optimizer, const ParameterNames& names,
                          const State& state, const std::string& what);

}  // namespace torch_accelerated
