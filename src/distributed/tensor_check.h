// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated::detail {

/// @throws ArgumentError  `tensor` is undefined, sparse or not contiguous; the text begins with
///                        `call`.
void check_moved(const char* call, const torch::Tensor& tensor);

/// @throws ArgumentError  likewise, and for a dtype that can't be summed over ranks.
void check_summed(const char* call, const torch::Tensor& tensor);

}  // namespace torch_accelerated::detail
