// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tests {

/// How a run of a program under mpirun has ended.
struct JobEnd {
  int status = -1;          ///< mpirun's
  std::string out;          ///< what all ranks wrote to stdout
  std::string err;          ///< and to stderr, with what mpirun says
  double seconds = 0;       ///< from the start
  double after_fault = -1;  ///< from "fault at <ns>" in `out`, until mpirun was gone
  int orphans = 0;          ///< processes of the job that were left
  bool was_killed = false;  ///< it took longer than allowed

  /// Lines of `err` that begin with "rank ": what the library says.
  std::vector<std::string> causes() const;
};

/// Starts `command` under mpirun on `ranks` ranks, in a session of its own, and waits for its end.
JobEnd run_job(int ranks, const std::vector<std::string>& command,
               const std::vector<std::string>& environment = {}, double allowed_seconds = 30);

/// TORCH_ACCELERATED_SEED, or 1.
std::uint64_t seed_of_trials();

/// `in_long` for tests/run --long, else `in_short`.
int number_of_trials(int in_short, int in_long);

}  // namespace tests
