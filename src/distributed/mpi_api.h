// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "torch_accelerated/distributed/mpi.h"

namespace torch_accelerated::detail {

/// @param call  the MPI function that returned `code`, for the message.
/// @throws CommunicationError  a code other than MPI_SUCCESS, with MPI's own words.
void check_mpi(int code, const char* call);

/// A duplicate of `comm` whose errors are returned rather than fatal. Collective; blocks.
MPI_Comm duplicate_comm(MPI_Comm comm);

int rank_in(MPI_Comm comm);
int size_of(MPI_Comm comm);

/// Whether all ranks of `comm` come here within this time. Collective, and the one thing here that
/// doesn't block; where they don't come, nothing else that is collective works on `comm`.
bool meet_within(MPI_Comm comm, std::chrono::milliseconds time) noexcept;

/// Whether `ok` holds on all ranks of `comm`. Collective; blocks.
bool holds_on_all(MPI_Comm comm, bool ok);

}  // namespace torch_accelerated::detail
