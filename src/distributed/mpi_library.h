// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated::detail {

/// The MPI library that this one was compiled against, such as "Open MPI 4".
std::string compiled_mpi_library();

/// What is wrong with the library that is loaded; empty where nothing is.
/// @param loaded  what MPI_Get_library_version says.
std::string mpi_library_problem(const std::string& compiled, const std::string& loaded);

/// Says in one line of the log where another MPI library is loaded than was compiled against.
void check_mpi_library();

}  // namespace torch_accelerated::detail
