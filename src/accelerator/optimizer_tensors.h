// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <vector>

namespace torch_accelerated {

/// The parameters of `optimizer` that are trained, each once: a tensor that an optimizer holds
/// twice is reduced once.
std::vector<torch::Tensor> parameters_of(const torch::optim::Optimizer& optimizer);

/// What numbers their gradients have, each once.
std::vector<torch::Tensor> gradient_values(const torch::optim::Optimizer& optimizer);

}  // namespace torch_accelerated
