// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "distributed/job.h"
#include "distributed/mpi_group.h"

namespace torch_accelerated::detail {

/// Initialises MPI, which the library then ends: by MPI_Finalize at a normal exit, once all ranks
/// have come to theirs, and by MPI_Abort at one with another status than 0. Collective.
/// @param time  for all ranks to come here; after it this process ends.
void begin_job(std::chrono::milliseconds time);

/// Remembers the group of a world of all ranks: those that wait in its communicators are told when
/// this process ends, if the job is the library's, and `release_dropped` looks at it. Collective
/// over `comm`, of all ranks; blocks.
void add_to_job(MPI_Comm comm, std::shared_ptr<MpiGroup> group);

/// Releases the worlds that all ranks have dropped. Collective over `comm`, of all ranks; blocks.
void release_dropped(MPI_Comm comm);

/// Where all ranks see who tells why the job ends: 0, or 1 + a rank. Null when it is gone.
void share_job_teller(std::atomic<std::uint32_t>* teller) noexcept;

}  // namespace torch_accelerated::detail
