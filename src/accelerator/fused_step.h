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
  /// @return false, with nothing changed, where a kernel doesn't fit them: sparse ones, or ones
  /// that
  ///         lie in memory otherwise than their parameters.
  virtual bool take() = 0;
};

/// Steps of exactly a torch::optim::SGD, Adam or AdamW, which outlives them; null for any other
/// type, also for one that is derived from these.
std::unique_ptr<FusedStep> make_fused_step(torch::optim::Optimizer& optimizer);

}  // namespace torch_accelerated
