// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// Takes an optimizer's steps through ATen's fused kernels, one for all of a group's tensors. What
/// the optimizer keeps of its parameters stays where its own `step` keeps it, so that either may
/// follow the other.
class FusedStep {
 public:
  virtual ~FusedStep() = default;

  /// One step by the gradients that there are.
  /// @param suppressed  a float32 scalar on the parameters' device: 1 where nothing is to change,
  ///                    which the host doesn't wait to know; not defined: a step in any case.
  /// @return false, with nothing changed, where a kernel doesn't fit them: sparse ones, or ones
  ///         that lie in memory otherwise than their parameters.
  virtual bool take(const at::Tensor& suppressed) = 0;

  /// Takes note of it when the oldest of the steps that `take` was given a flag for has turned out
  /// to be `suppressed` or not.
  virtual void hear(bool suppressed) = 0;
};

/// Steps of exactly a torch::optim::SGD, Adam or AdamW, which outlives them; null for any other
/// type, also for one that is derived from these.
std::unique_ptr<FusedStep> make_fused_step(torch::optim::Optimizer& optimizer);

}  // namespace torch_accelerated
