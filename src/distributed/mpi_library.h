// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "distributed/mpi_api.h"

namespace torch_accelerated::detail {

/// The MPI library that this one was compiled against, such as "Open MPI 4".
std::string compiled_mpi_library();

/// What is wrong with the library that is loaded; empty where nothing is.
/// @param loaded  what MPI_Get_library_version says.
std::string mpi_library_problem(const std::string& compiled, const std::string& loaded);

/// Says in one line of the log where another MPI library is loaded than was compiled against; in a
/// process once.
void check_mpi_library();

/// Collective; blocks.
/// @throws CommunicationError  on all ranks: not all have loaded the same library; names the first
///                             that differs from rank 0's.
void compare_mpi_libraries(MPI_Comm comm);

}  // namespace torch_accelerated::detail
