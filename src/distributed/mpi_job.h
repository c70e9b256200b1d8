// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "distributed/job.h"
#include "distributed/mpi_group.h"

namespace torch_accelerated::detail {

/// Initialises MPI, which the library then ends: by MPI_Finalize at a normal exit, once all ranks
/// have come to theirs, and by MPI_Abort at one with another status than 0. Collective.
void begin_job();

/// Ranks that wait in a communicator of this group are told when this process ends.
void add_to_job(std::shared_ptr<MpiGroup> group);

/// Where all ranks see who tells why the job ends: 0, or 1 + a rank. Null when it is gone.
void share_job_teller(std::atomic<std::uint32_t>* teller) noexcept;

}  // namespace torch_accelerated::detail
