// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "distributed/mpi_group.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

/// The first communicator of a group on a duplicate of `comm`. Collective; blocks.
/// @param id  the same on all ranks, and of no other communicator of the group.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm, std::shared_ptr<MpiGroup> group,
                                                    std::uint64_t id);

}  // namespace torch_accelerated::detail
