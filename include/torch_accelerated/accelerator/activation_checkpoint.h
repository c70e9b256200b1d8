// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// `function(inputs)` without keeping what its backward needs: the backward runs `function` once
/// more. Saves memory for the time of a second forward.
///
/// Random numbers and autocast are in the second run what they were in the first. Layers that
/// change buffers in forward, such as BatchNorm, do so twice.
/// @param function  depends on nothing that changes before the backward; what it refers to lives
///                  until then. Beside `inputs` it may use leaves, such as parameters; a tensor
///                  that has a graph is to be an input.
/// @param inputs    any shapes and dtypes.
/// @throws ArgumentError  an undefined input or output.
/// @par Source  Chen et al. 2016 (arXiv:1604.06174), section 4.
std::vector<torch::Tensor> checkpoint(
    std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>&)> function,
    std::vector<torch::Tensor> inputs);

/// The same for one tensor.
torch::Tensor checkpoint(std::function<torch::Tensor(const torch::Tensor&)> function,
                         const torch::Tensor& input);

}  // namespace torch_accelerated
