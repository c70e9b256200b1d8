// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_library.h"

#include "base/text.h"
#include "distributed/mpi_api.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated::detail {

namespace {

constexpr int kLongest = 128;  // bytes of a version that are compared, and told

// What the library calls itself, which may have more lines.
std::string loaded_mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text, static_cast<std::size_t>(length));
  return version.substr(0, version.find('\n'));
}

}  // namespace

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
  [[maybe_unused]] static const auto told = [] {
    const auto found = mpi_library_problem(compiled_mpi_library(), loaded_mpi_library());
    if (!found.empty()) log(LogLevel::kWarning, "MPI: " + found);
    return found;
  }();
}

void compare_mpi_libraries(MPI_Comm comm) {
  auto mine = loaded_mpi_library();
  mine.resize(kLongest);
  mine.back() = '\0';
  std::string all(kLongest * static_cast<std::size_t>(size_of(comm)), '\0');
  check_mpi(MPI_Allgather(mine.data(), kLongest, MPI_CHAR, all.data(), kLongest, MPI_CHAR, comm),
            "MPI_Allgather");
  for (std::size_t rank = 1; rank * kLongest < all.size(); ++rank) {
    const auto other = all.substr(rank * kLongest, kLongest);
    if (other.compare(0, kLongest, all, 0, kLongest) == 0) continue;
    CommunicationError error(
        concat("make_world: the MPI library is ", all.c_str(), " on rank 0 and ", other.c_str(),
               " on rank ", rank, "; start all ranks with the library path of one MPI"),
        ExitCode::kMismatch);
    error.set_on_all_ranks();
    throw error;
  }
}

}  // namespace torch_accelerated::detail
