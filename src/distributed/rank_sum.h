// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <span>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

/// Writes the sum of `count` numbers of each rank, element by element and in `order`, to each of
/// `outs`, of which any may be one of `parts` and none may overlap another part or out. Halves are
/// summed in float32 and rounded once.
/// @param parts  one array for each rank, in rank order.
void sum_over_ranks(std::span<void* const> outs, std::span<const void* const> parts,
                    std::int64_t count, c10::ScalarType dtype, SumOrder order);

/// The same, to one array.
void sum_over_ranks(void* out, std::span<const void* const> parts, std::int64_t count,
                    c10::ScalarType dtype, SumOrder order);

}  // namespace torch_accelerated::detail
