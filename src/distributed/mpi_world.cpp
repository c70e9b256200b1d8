// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "distributed/host_name.h"
#include "distributed/launcher.h"
#include "distributed/mpi_communicator.h"
#include "distributed/mpi_job.h"
#include "torch_accelerated/base/log.h"
#include "torch_accelerated/distributed/mpi.h"

namespace torch_accelerated {
namespace {

constexpr std::uint64_t kGradients = 1;
constexpr std::uint64_t kControl = 2;

World make_world_over(MPI_Comm comm, const WorldOptions& options, bool is_ours) {
  int level = MPI_THREAD_SINGLE;
  detail::check_mpi(MPI_Query_thread(&level), "MPI_Query_thread");
  MPI_Comm own = detail::duplicate_comm(comm);
  const auto group = std::make_shared<detail::MpiGroup>(own, options.shared_window, is_ours);
  World world;
  world.gradients = detail::make_mpi_communicator(own, group, kGradients);
  world.control = detail::make_mpi_communicator(own, group, kControl);
  world.local_rank = group->local_rank;
  world.local_size = group->local_size;
  world.host = detail::host_name();
  world.is_callers = !is_ours;
  world.allows_threads = level == MPI_THREAD_MULTIPLE;
  detail::check_mpi(MPI_Comm_free(&own), "MPI_Comm_free");
  if (is_ours) detail::add_to_job(group);
  if (!world.allows_threads && world.rank() == 0) {
    log(LogLevel::kInfo,
        "MPI lets one thread at a time call it: all communication is done by the "
        "thread that trains");
  }
  return world;
}

// A launcher has started several processes, and MPI doesn't know: each would be a run of its own.
void check_size(const detail::Launch& launch) {
  if (launch.ranks <= 1 || detail::size_of(MPI_COMM_WORLD) > 1) return;
  MPI_Finalize();
  throw StateError(concat(launch.variable, "=", launch.ranks, ", set by ", launch.launcher,
                          ", announces ", launch.ranks, " ranks, but MPI knows of one; ",
                          launch.cure));
}

bool is_initialized() {
  int is_finalized = 0;
  MPI_Finalized(&is_finalized);
  if (is_finalized != 0) {
    throw StateError(
        "make_world: MPI has been finalized, and can't be initialised again; make the "
        "world before, or use make_single_world()");
  }
  int is_initialized = 0;
  MPI_Initialized(&is_initialized);
  return is_initialized != 0;
}

}  // namespace

World make_world(const WorldOptions& options) {
  if (is_initialized()) {
    return make_world_over(MPI_COMM_WORLD, options, detail::is_job_ours());
  }
  const auto launch = detail::find_launch();
  if (!launch || launch->ranks == 1) return make_single_world();
  detail::begin_job();
  check_size(*launch);
  return make_world_over(MPI_COMM_WORLD, options, true);
}

World make_world(MPI_Comm comm, const WorldOptions& options) {
  return make_world_over(comm, options, false);
}

}  // namespace torch_accelerated
