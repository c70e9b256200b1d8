// SPDX-License-Identifier: Apache-2.0
//
// Stands before MPI's own functions and makes them go wrong where the environment says so.
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

// TESTS_MPI_LIBRARY: what the library calls itself.
extern "C" int MPI_Get_library_version(char* version, int* length) {
  const char* text = std::getenv("TESTS_MPI_LIBRARY");
  if (text == nullptr) return PMPI_Get_library_version(version, length);
  *length = static_cast<int>(std::min<std::size_t>(std::strlen(text), 255));
  std::memcpy(version, text, static_cast<std::size_t>(*length));
  version[*length] = '\0';
  return MPI_SUCCESS;
}

// TESTS_WINDOWS: how many windows there are to be had.
extern "C" int MPI_Win_allocate_shared(MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm,
                                       void* area, MPI_Win* window) {
  static int made = 0;
  const char* most = std::getenv("TESTS_WINDOWS");
  if (most != nullptr && ++made > std::atoi(most)) return MPI_ERR_NO_MEM;
  return PMPI_Win_allocate_shared(size, unit, info, comm, area, window);
}

// TESTS_MPI_ERROR: the call is made with a count that MPI itself finds wrong.
extern "C" int MPI_Iallgather(const void* sent, int sent_count, MPI_Datatype sent_type,
                              void* received, int received_count, MPI_Datatype received_type,
                              MPI_Comm comm, MPI_Request* request) {
  const bool is_wrong = std::getenv("TESTS_MPI_ERROR") != nullptr;
  return PMPI_Iallgather(sent, is_wrong ? -1 : sent_count, sent_type, received, received_count,
                         received_type, comm, request);
}
