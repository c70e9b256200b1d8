// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "torch_accelerated/core/tensor_dict.h"

namespace at {
struct Generator;
}

namespace torch_accelerated {

/// LibTorch's default generators: the CPU's, then every CUDA device's.
std::vector<at::Generator> default_generators();

/// What they have come to, by device: "cpu", "cuda:0" …
TensorDict random_states();

/// Puts them back to `states`; a device that isn't here is passed over.
void set_random_states(const TensorDict& states);

}  // namespace torch_accelerated
