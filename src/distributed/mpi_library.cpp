// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_library.h"

#include "base/text.h"
#include "distributed/mpi_api.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated::detail {

std::string compiled_mpi_library() {
#if defined(OMPI_MAJOR_VERSION)
  return concat("Open MPI ", OMPI_MAJOR_VERSION);
#elif defined(I_MPI_VERSION)
  return "Intel(R) MPI Library";
#elif defined(MVAPICH_VERSION) || defined(MVAPICH2_VERSION)
  return "MVAPICH";
#elif defined(MPICH_VERSION)
  return "MPICH";
#else
  return "";
#endif
}

std::string mpi_library_problem(const std::string& compiled, const std::string& loaded) {
  // Open MPI's text is "Open MPI v4.1.4, ...". MPICH and what is made from it have one ABI.
  auto name = loaded.substr(0, loaded.find_first_of(".,\n"));
  if (const auto v = name.find(" v"); v != std::string::npos) name.erase(v + 1, 1);
  const bool is_open = compiled.starts_with("Open MPI");
  if (compiled.empty() || is_open == name.starts_with("Open MPI")) {
    if (!is_open || name == compiled) return "";
  }
  return concat("built with ", compiled, ", but ", name,
                " is loaded; start the program with the library path of the MPI that it was built "
                "with, or build it again");
}

void check_mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const auto problem = mpi_library_problem(compiled_mpi_library(),
                                           std::string(text, static_cast<std::size_t>(length)));
  if (!problem.empty()) log(LogLevel::kWarning, "MPI: " + problem);
}

}  // namespace torch_accelerated::detail
