// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_group.h"

#include <sched.h>

namespace torch_accelerated::detail {
namespace {

// The cores that any of the ranks may run on: launchers often give each rank one of its own.
int cores_of_all(MPI_Comm host) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return size_of(host);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &cores, sizeof(cores), MPI_BYTE, MPI_BOR, host),
            "MPI_Allreduce");
  return CPU_COUNT(&cores);
}

}  // namespace

MpiGroup::MpiGroup(MPI_Comm comm, bool wants_window, bool ours) : notices(comm), is_ours(ours) {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  local_rank = rank_in(host);
  local_size = size_of(host);
  is_crowded = cores_of_all(host) < local_size;
  has_window = holds_on_all(comm, wants_window && local_size == size_of(comm));
  check_mpi(MPI_Comm_free(&host), "MPI_Comm_free");
}

}  // namespace torch_accelerated::detail
