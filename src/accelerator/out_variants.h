// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <optional>

namespace torch_accelerated {

/// The operation that writes what `operation` makes of `arguments` to tensors that it gets as
/// further arguments; nullopt where there is none with a kernel of its own for the CPU that gives
/// `results`, to the bit. Is tried, so that it is not for an operation that changes its arguments.
std::optional<c10::OperatorHandle> out_variant(const c10::OperatorHandle& operation,
                                               const torch::jit::Stack& arguments,
                                               const torch::jit::Stack& results);

}  // namespace torch_accelerated
