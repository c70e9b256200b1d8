// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <vector>

namespace torch_accelerated {

/// The tensors that one call of a fused kernel steps: all of one dtype, on one device, and at one
/// step of their own.
struct FusedCall {
  std::int64_t step = 0;  ///< that they have made before
  std::vector<at::Tensor> parameters = {};
  std::vector<at::Tensor> gradients = {};
  std::vector<at::Tensor> first = {};    ///< moments, or the momentum
  std::vector<at::Tensor> second = {};   ///< likewise
  std::vector<at::Tensor> largest = {};  ///< second moments so far
};

/// The calls for one param group, usually a single one. Their memory is kept from step to step.
class FusedCalls {
 public:
  /// The call for `parameter`, to which its tensors are to be added.
  FusedCall& of(std::int64_t step, const at::Tensor& parameter);

  std::span<FusedCall> all() noexcept { return {calls_.data(), used_}; }

  /// Lets go of all tensors.
  void clear() noexcept;

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
