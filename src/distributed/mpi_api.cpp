// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_api.h"

#include <algorithm>
#include <string>
#include <thread>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  throw CommunicationError(concat(
      call, " failed: ",
      length > 0 ? std::string(text, static_cast<std::size_t>(length)) : concat("error ", code)));
}

MPI_Comm duplicate_comm(MPI_Comm comm) {
  MPI_Comm duplicate = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(comm, &duplicate), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(duplicate, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return duplicate;
}

int rank_in(MPI_Comm comm) {
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  return rank;
}

int size_of(MPI_Comm comm) {
  int size = 0;
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  return size;
}

bool meet_within(MPI_Comm comm, std::chrono::milliseconds time) noexcept {
  using Clock = std::chrono::steady_clock;
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(comm, &request) != MPI_SUCCESS) return false;
  const auto start = Clock::now();
  for (;;) {
    int done = 0;
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    if (done != 0) return true;
    const auto waited = Clock::now() - start;
    if (waited > time) return false;
    std::this_thread::sleep_for(std::clamp<Clock::duration>(
        waited / 16, std::chrono::microseconds(10), std::chrono::milliseconds(20)));
  }
}

bool holds_on_all(MPI_Comm comm, bool ok) {
  int flag = ok ? 1 : 0;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &flag, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
  return flag != 0;
}

}  // namespace torch_accelerated::detail
