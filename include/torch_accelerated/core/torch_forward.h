// SPDX-License-Identifier: Apache-2.0
#pragma once

// The names of LibTorch's that the public headers use, declared and not defined: a file that needs
// more than names includes <torch/torch.h> itself, and only that file pays for it.

namespace at {
class Tensor;
}

namespace torch {
using at::Tensor;
namespace nn {
class Module;
}
namespace optim {
class Optimizer;
}
}  // namespace torch
