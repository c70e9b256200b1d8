// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <vector>

#include "torch_accelerated/accelerator/loss_scaling.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/core/state.h"

namespace torch_accelerated {

/// The scale of one optimizer's losses, on the device. It is the same on all ranks: what moves it
/// is whether the gradients that the ranks have added up are finite.
class LossScaler {
 public:
  LossScaler(const LossScaling& options, c10::Device device);

  /// `loss` times the scale, float32 at least.
  torch::Tensor scaled(const torch::Tensor& loss) const;

  /// Takes the scale out of an update's gradients, and adjusts it. Waits for the device.
  /// @return whether all of them are finite.
  /// @throws NumericError  on all ranks: they have overflowed too often at the smallest scale.
  bool unscale(std::vector<torch::Tensor> gradients);

  /// Waits for the device.
  double scale() const;

  State state() const;
  void load_state(const State& state);

 private:
  void adjust(bool overflowed);

  LossScaling options_;
  torch::Tensor scale_;                // (), float32
  torch::Tensor growth_;               // (), int32: updates in a row without overflow
  torch::Tensor overflow_;             // (), float32: 1 where a gradient is not finite
  std::int64_t skips_at_minimum_ = 0;  // in a row
};

/// Whether all numbers are finite. Waits for the device.
bool are_finite(std::vector<torch::Tensor> tensors);

/// Notes what `options` has wrong.
void check_loss_scaling(OptionCheck& check, const LossScaling& options);

}  // namespace torch_accelerated
