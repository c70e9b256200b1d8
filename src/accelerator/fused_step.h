// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

class HostNumbers;

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

  /// Asks the device for such a step while that is being recorded. Rates and counts are among
  /// `numbers`; all else that the optimizer was told stays as it is now.
  /// @return what the host has to do at each replay.
  /// @throws StateError  `take` wouldn't take it, or it is the first step of a parameter.
  virtual std::function<void()> record(const at::Tensor& suppressed, HostNumbers& numbers) = 0;

  /// Takes note of it when the oldest of the steps with a flag has turned out to be `suppressed` or
  /// not.
  virtual void hear(bool suppressed) = 0;

  /// Adds what a recorded step would not notice: where tensors lie, which of them are trained, and
  /// what the optimizer was told beside its rates.
  virtual void add_fixed(std::vector<std::uint64_t>& fixed) = 0;
};

/// Steps of exactly a torch::optim::SGD, Adam or AdamW, which outlives them; null for any other
/// type, also for one that is derived from these.
std::unique_ptr<FusedStep> make_fused_step(torch::optim::Optimizer& optimizer);

}  // namespace torch_accelerated
