// SPDX-License-Identifier: Apache-2.0
#include "accelerator/optimizer_tensors.h"

#include <unordered_map>

namespace torch_accelerated {

std::vector<torch::Tensor> parameters_of(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> parameters;
  std::unordered_map<const c10::TensorImpl*, bool> seen;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      if (!parameter.requires_grad()) continue;
      if (seen.emplace(parameter.unsafeGetTensorImpl(), true).second) {
        parameters.push_back(parameter);
      }
    }
  }
  return parameters;
}

std::vector<torch::Tensor> gradient_values(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> values;
  for (auto& parameter : parameters_of(optimizer)) {
    if (!parameter.grad().defined()) continue;
    auto& gradient = parameter.mutable_grad();
    if (gradient.is_sparse()) gradient = gradient.coalesce();  // summands may overflow in the sum
    values.push_back(gradient.is_sparse() ? gradient._values() : gradient);
  }
  return values;
}

}  // namespace torch_accelerated
