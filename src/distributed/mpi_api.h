// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/distributed/mpi.h"

namespace torch_accelerated::detail {

/// @param call  the MPI function that returned `code`, for the message.
/// @throws CommunicationError  a code other than MPI_SUCCESS, with MPI's own words.
void check_mpi(int code, const char* call);

/// A duplicate of `comm` whose errors are returned rather than fatal. Collective; blocks.
MPI_Comm duplicate_comm(MPI_Comm comm);

int rank_in(MPI_Comm comm);
int size_of(MPI_Comm comm);

/// Whether `ok` holds on all ranks of `comm`. Collective; blocks.
bool holds_on_all(MPI_Comm comm, bool ok);

}  // namespace torch_accelerated::detail
