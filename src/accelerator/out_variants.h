// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <optional>

namespace torch_accelerated {

/// The operation that writes what `operation` gave, `results`, to tensors that it gets as further
/// arguments; nullopt where there is none with a kernel of its own for the CPU.
std::optional<c10::OperatorHandle> out_variant(const c10::OperatorHandle& operation,
                                               const torch::jit::Stack& results);

}  // namespace torch_accelerated
