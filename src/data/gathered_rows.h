// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// The rows of `value` (samples, ...) at `indices`, each in [0, samples), in memory of their own
/// and on the same device: what index_select gives.
torch::Tensor gathered_rows(const torch::Tensor& value, std::span<const std::int64_t> indices);

}  // namespace torch_accelerated
