// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <string>

#include "base/text.h"
#include "distributed/host_name.h"
#include "distributed/launcher.h"
#include "distributed/mpi_communicator.h"
#include "distributed/mpi_job.h"
#include "distributed/mpi_library.h"
#include "distributed/start_limit.h"
#include "torch_accelerated/base/log.h"
#include "torch_accelerated/distributed/mpi.h"

namespace torch_accelerated {
namespace {

constexpr std::uint64_t kGradients = 1;
constexpr std::uint64_t kControl = 2;

// Everything after it blocks until all ranks have done the same.
void meet_at_start(MPI_Comm comm, std::chrono::milliseconds time) {
  if (detail::meet_within(comm, time)) return;
  if (detail::is_job_ours()) detail::note_job_failure();
  CommunicationError error(detail::late_start_text(time));
  error.set_rank(detail::rank_in(comm));
  throw error;
}

/// @param is_whole  whether these are all ranks that there are, for which the library keeps a list.
World make_world_over(MPI_Comm comm, const WorldOptions& options, bool is_ours, bool is_whole) {
  meet_at_start(comm, options.start_timeout);
  int level = MPI_THREAD_SINGLE;
  detail::check_mpi(MPI_Query_thread(&level), "MPI_Query_thread");
  MPI_Comm own = detail::duplicate_comm(comm);
  if (detail::rank_in(own) == 0) detail::check_mpi_library();
  detail::compare_mpi_libraries(own);
  if (is_whole) detail::release_dropped(own);
  const auto group = std::make_shared<detail::MpiGroup>(own, options.shared_window, is_ours);
  if (is_whole) detail::add_to_job(own, group);
  World world;
  world.gradients = detail::make_mpi_communicator(own, group, kGradients);
  world.control = detail::make_mpi_communicator(own, group, kControl);
  world.local_rank = group->local_rank;
  world.local_size = group->local_size;
  world.host = detail::host_name();
  world.is_callers = !is_ours;
  world.allows_threads = level == MPI_THREAD_MULTIPLE;
  detail::check_mpi(MPI_Comm_free(&own), "MPI_Comm_free");
  if (!world.allows_threads && world.rank() == 0) {
    log(LogLevel::kInfo,
        "MPI lets one thread at a time call it: all communication is done by the "
        "thread that trains");
  }
  return world;
}

// A launcher has started several processes, and MPI doesn't know: each would be a run of its own.
std::string size_problem(const std::optional<detail::Launch>& launch) {
  if (!launch || launch->ranks <= 1 || detail::size_of(MPI_COMM_WORLD) > 1) return "";
  return concat(launch->variable, "=", launch->ranks, ", set by ", launch->launcher, ", announces ",
                launch->ranks, " ranks, but MPI knows of one; ", launch->cure);
}

// MPI that the program has initialised stays as it is.
void check_size() {
  const auto problem = size_problem(detail::find_launch());
  if (!problem.empty()) throw StateError(problem);
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
    if (!detail::is_job_ours()) check_size();
    return make_world_over(MPI_COMM_WORLD, options, detail::is_job_ours(), /*is_whole=*/true);
  }
  const auto launch = detail::find_launch();
  if (!launch || launch->ranks == 1) return make_single_world();
  detail::begin_job(options.start_timeout);
  if (const auto problem = size_problem(launch); !problem.empty()) {
    MPI_Finalize();
    throw StateError(problem);
  }
  return make_world_over(MPI_COMM_WORLD, options, /*is_ours=*/true, /*is_whole=*/true);
}

World make_world(MPI_Comm comm, const WorldOptions& options) {
  check_size();
  return make_world_over(comm, options, /*is_ours=*/false, /*is_whole=*/false);
}

}  // namespace torch_accelerated
