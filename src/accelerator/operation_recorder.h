// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <functional>

namespace torch_accelerated {

/// Sees each operation on tensors that a thread asks for: below autograd and autocast, where only
/// the kernels are left.
class OperationRecorder {
 public:
  virtual ~OperationRecorder() = default;

 protected:
  /// Runs `work`, with `operate` in the place of each of its operations.
  void watch(const std::function<void()>& work);

  /// Runs `work` within `watch` without being told of its operations.
  static void unwatched(const std::function<void()>& work);

  /// Has to do the operation, by do_it() or otherwise.
  /// @param stack  has its arguments on top, and is to have its results in their place.
  virtual void operate(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
                       torch::jit::Stack& stack) = 0;

  /// Does the operation by its kernel for `keys`, which `operate` was given.
  static void do_it(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
                    torch::jit::Stack& stack);

 private:
  static OperationRecorder*& current() noexcept;
  static void fall_back(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
                        torch::jit::Stack* stack);
  static void install();
};

}  // namespace torch_accelerated
