// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <vector>

namespace torch_accelerated {

/// Tensors in an order. Most are the same in each step: those stay in their places, as counting
/// references down and up again costs more than to look.
class StandingTensors {
 public:
  void add(const at::Tensor& tensor) {
    if (used_ == tensors_.size()) {
      tensors_.push_back(tensor);
    } else if (!tensors_[used_].is_same(tensor)) {
      tensors_[used_] = tensor;
    }
    ++used_;
  }

  at::TensorList all() const noexcept { return {tensors_.data(), used_}; }

  /// Those that are added from now on come from the first place on.
  void begin() noexcept { used_ = 0; }

  /// Lets go of those that were not added again.
  void end() noexcept { tensors_.resize(used_); }

 private:
  std::vector<at::Tensor> tensors_;
  std::size_t used_ = 0;
};

/// The tensors that one call of a fused kernel steps: all of one dtype, on one device, and at one
/// step of their own.
struct FusedCall {
  std::int64_t step = 0;  ///< that they have made before
  StandingTensors parameters = {};
  std::vector<at::Tensor> gradients = {};
  StandingTensors first = {};    ///< moments, or the momentum
  StandingTensors second = {};   ///< likewise
  StandingTensors largest = {};  ///< second moments so far
};

/// The calls for one param group, usually a single one, which stand from step to step.
class FusedCalls {
 public:
  /// Begins a step.
  void begin() noexcept;

  /// The call for `parameter`, to which its tensors are to be added.
  FusedCall& of(std::int64_t step, const at::Tensor& parameter);

  std::span<FusedCall> all() noexcept { return {calls_.data(), used_}; }

  /// Lets go of the gradients, and of all that the step didn't need.
  void end() noexcept;

 private:
  std::vector<FusedCall> calls_;
  std::size_t used_ = 0;
};

/// Lays `kept` out in memory as `parameter` is: a checkpoint has its tensors in plain order.
/// @return false, with nothing changed, where it isn't of the same shape, dtype and device.
bool lay_out_alike(at::Tensor& kept, const at::Tensor& parameter);

/// Whether a kernel may go through `other`'s memory as it goes through that of `parameter`.
bool lies_alike(const at::Tensor& other, const at::Tensor& parameter);

/// Whether kernels exist for `parameter` and the gradient that it has.
bool fits_fused_kernels(const at::Tensor& parameter);

}  // namespace torch_accelerated
