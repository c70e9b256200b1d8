// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// The options of each param group in words, such as "lr 0.1, momentum 0.9"; of an optimizer that
/// isn't LibTorch's own the learning rate alone.
std::vector<std::string> described_options(const torch::optim::Optimizer& optimizer);

}  // namespace torch_accelerated
