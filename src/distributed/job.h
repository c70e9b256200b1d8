// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {

// The job of several ranks that this library has begun in this process by initialising MPI, if it
// has: it ends it, too. A process has one MPI, so this is the one state that the process has once.

/// Whether the library has begun the job of this process.
bool is_job_ours() noexcept;

/// This process's number in it; 0 without one.
int job_rank() noexcept;

/// Remembers that something went wrong on this rank: MPI is then not finalised at exit.
void note_job_failure() noexcept;

/// Prints `line` and ends the job, all its ranks, with `exit_code`. Where several ranks fail at
/// once, one of them prints. Returns only where the job is not the library's.
/// @param line  begins with the rank ("rank 2, update 5: ..."), else the rank is put before it.
void end_job(const std::string& line, ExitCode exit_code) noexcept;

/// For what all ranks have to say and rank 0 has said: waits, not for long, for the other ranks to
/// come here as well, so that it is out before any of them ends the job.
void meet_before_end() noexcept;

}  // namespace torch_accelerated::detail
