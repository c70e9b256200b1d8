// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

namespace torch_accelerated {

/// The number that a tensor of one element holds; waits for the device. On the CPU it is read in
/// place: `item` goes through the dispatcher, which costs more than all other bookkeeping of a
/// micro-batch.
inline double host_scalar(const torch::Tensor& scalar) {
  const bool plain = scalar.is_cpu() && scalar.layout() == torch::kStrided && !scalar.is_neg();
  if (plain && scalar.scalar_type() == torch::kFloat32) return *scalar.const_data_ptr<float>();
  if (plain && scalar.scalar_type() == torch::kFloat64) return *scalar.const_data_ptr<double>();
  return scalar.item<double>();
}

}  // namespace torch_accelerated
