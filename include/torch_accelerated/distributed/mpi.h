// SPDX-License-Identifier: Apache-2.0
#pragma once

// Without these, mpi.h brings the C++ interface of old, which wants a library of its own. Where a
// program includes mpi.h before this header, it links MPI::MPI_CXX or defines them too.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include "torch_accelerated/distributed/world.h"

namespace torch_accelerated {

/// The ranks of an MPI program's own communicator, as a world to train in.
///
/// Collective over `comm`, which is duplicated and stays the caller's, as MPI does: the library
/// neither finalises it nor ends the job; when a rank fails, all ranks that can be reached throw.
/// `close` releases the world; nothing else does.
/// The only header that names MPI, so link MPI to what includes it; it is there where the library
/// was built with MPI.
/// @param comm  of one group of ranks (no intercommunicator), after MPI_Init.
/// @throws StateError          a launcher announces several ranks and MPI_COMM_WORLD has one.
/// @throws CommunicationError  a rank of `comm` doesn't come in time, after which nothing
/// collective
///                             works on `comm`; or they have loaded different MPI libraries.
World make_world(MPI_Comm comm, const WorldOptions& options = {});

}  // namespace torch_accelerated
