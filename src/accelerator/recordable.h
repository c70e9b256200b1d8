// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace torch_accelerated {

/// That `operation` on `arguments` may be recorded on the CPU, to be done again on other numbers:
/// it has plain tensors, reads none of their numbers for the host, and gives results whose size
/// doesn't depend on them.
/// @throws CannotRecord  else, and says which operation it is.
void require_recordable(const c10::OperatorHandle& operation, const torch::jit::Stack& arguments);

/// That what another time gives may be copied to `results`, which are plain tensors and don't
/// overlap themselves.
/// @throws CannotRecord  as above.
void require_copyable(const c10::OperatorHandle& operation, const torch::jit::Stack& results);

}  // namespace torch_accelerated
