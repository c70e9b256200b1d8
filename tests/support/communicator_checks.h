// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "torch_accelerated/distributed/communicator.h"

namespace tests {

namespace ta = torch_accelerated;

/// What rank `rank` brings: numbers of `dtype` drawn from (seed, rank).
torch::Tensor numbers_of(int rank, torch::IntArrayRef sizes, torch::ScalarType dtype,
                         std::uint64_t seed = 1);

/// The sum of what `ranks` ranks bring, added by LibTorch in `order`; halves in float32.
torch::Tensor sum_of(int ranks, torch::IntArrayRef sizes, torch::ScalarType dtype,
                     ta::SumOrder order = ta::SumOrder::kRankOrder, std::uint64_t seed = 1);

// What every communicator has to do: each check is called by all ranks, with their own communicator
// of one world.
void check_sums_of_every_dtype(ta::Communicator& communicator);
void check_sums_of_every_size(ta::Communicator& communicator, int trials, std::uint64_t seed);
void check_both_orders(ta::Communicator& communicator);
void check_many_tensors_at_once(ta::Communicator& communicator);
void check_buffers(ta::Communicator& communicator);
void check_started_sums(ta::Communicator& communicator);
void check_reduce_scatter(ta::Communicator& communicator);
void check_all_gather(ta::Communicator& communicator);
void check_all_gather_of_bytes(ta::Communicator& communicator);
void check_all_to_all(ta::Communicator& communicator);
void check_broadcast(ta::Communicator& communicator);
void check_duplicates(ta::Communicator& communicator);

}  // namespace tests
