// SPDX-License-Identifier: Apache-2.0
//
// Stands before MPI's own function and makes it give a lower thread level than was asked for, where
// the environment says so.
#include <mpi.h>

#include <algorithm>
#include <cstdlib>

extern "C" int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  const char* most = std::getenv("TESTS_THREAD_LEVEL");
  const int asked = most == nullptr ? required : std::min(required, std::atoi(most));
  return PMPI_Init_thread(argc, argv, asked, provided);
}
