// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/world.h"

#include "distributed/host_name.h"
#include "distributed/job.h"

namespace torch_accelerated {

void World::abort(const std::string& line, ExitCode exit_code) noexcept {
  if (!is_callers) detail::end_job(line, exit_code);
  gradients->abort(line, exit_code);
  control->abort(line, exit_code);
}

void World::close() {
  gradients->close();
  control->close();
}

World make_single_world() {
  World world;
  world.gradients = make_self_communicator();
  world.control = make_self_communicator();
  world.host = detail::host_name();
  return world;
}

}  // namespace torch_accelerated
