// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "distributed/job.h"
#include "distributed/launcher.h"
#include "torch_accelerated/distributed/world.h"

namespace torch_accelerated {

World make_world(const WorldOptions& /*options*/) {
  const auto launch = detail::find_launch();
  if (!launch || launch->ranks <= 1) return make_single_world();
  throw StateError(concat(launch->variable, "=", launch->ranks, ", set by ", launch->launcher,
                          ", announces ", launch->ranks,
                          " ranks, but torch-accelerated was built without MPI; install MPI "
                          "(libopenmpi-dev) and build it again, or start one process"));
}

namespace detail {

bool is_job_ours() noexcept { return false; }
int job_rank() noexcept { return 0; }
void note_job_failure() noexcept {}
void end_job(const std::string& /*line*/, ExitCode /*exit_code*/) noexcept {}
void meet_before_end() noexcept {}

}  // namespace detail
}  // namespace torch_accelerated
