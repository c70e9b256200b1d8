// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

namespace examples {

/// 784-128-64-10 with ReLU; scores of the ten digits.
inline torch::nn::Sequential make_mnist_mlp() {
  return torch::nn::Sequential(torch::nn::Linear(28 * 28, 128), torch::nn::ReLU(),
                               torch::nn::Linear(128, 64), torch::nn::ReLU(),
                               torch::nn::Linear(64, 10));
}

}  // namespace examples
