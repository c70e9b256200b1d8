// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace torch_accelerated::detail {

/// What the environment of a launcher says about the run that this process belongs to.
struct Launch {
  std::string variable;  ///< that says so
  int ranks = 0;         ///< 0: a launcher is there, but its ranks are known to MPI alone
  std::string launcher;  ///< "mpirun of Open MPI"
  std::string cure;      ///< what to try where MPI knows of one rank only
};

/// Nothing where no launcher has left its variables. Malformed numbers announce nothing.
std::optional<Launch> find_launch();

/// This process's number among those that were launched with it, as long as MPI can't be asked; 0
/// where nobody says so.
int launched_rank();

}  // namespace torch_accelerated::detail
