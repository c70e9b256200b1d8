// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

using Rows = std::vector<std::vector<std::int64_t>>;

/// How many rows each rank's tensors have, [rank][tensor]; the tensors themselves stay where they
/// are. Collective.
/// @param parts  the same number on all ranks, at least one.
/// @throws ArgumentError  tensors that differ in more than their first dimensions: where they are
///                        this rank's own before anything is sent, else on all ranks.
Rows exchange_rows(const char* call, Communicator& control,
                   const std::vector<torch::Tensor>& parts);

}  // namespace torch_accelerated::detail
