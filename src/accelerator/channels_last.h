// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Lays out a module's four-dimensional parameters and buffers, such as weights of convolutions,
/// with their channels last, in place.
void lay_out_channels_last(torch::nn::Module& module);

/// `batch` with its four-dimensional tensors (rows, channels, height, width) laid out so: itself
/// where they are already.
Batch in_channels_last(Batch batch);

}  // namespace torch_accelerated
