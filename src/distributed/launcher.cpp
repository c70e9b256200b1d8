// SPDX-License-Identifier: Apache-2.0
#include "distributed/launcher.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace torch_accelerated::detail {
namespace {

struct Variable {
  const char* name;
  const char* launcher;
  const char* cure;
};

constexpr const char* kSameMpi =
    "use the mpirun of the MPI that the library was built with, or build it with this one";

// The launcher nearest to the program comes first: one starts another, and all leave their traces.
constexpr Variable kSizes[] = {
    {"OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", kSameMpi},
    {"PMI_SIZE", "a PMI launcher such as MPICH's mpiexec", kSameMpi},
    {"MPI_LOCALNRANKS", "MPICH's mpiexec", kSameMpi},
    {"SLURM_STEP_NUM_TASKS", "srun", "use srun --mpi=pmix, or mpirun inside of the allocation"},
};

constexpr const char* kRanks[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"};

// The positive number that `text` is; 0 for all that is none.
int parsed(const char* text) {
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, value);
  return result.ec == std::errc() && result.ptr == end && value > 0 ? value : 0;
}

}  // namespace

std::optional<Launch> find_launch() {
  for (const auto& variable : kSizes) {
    const char* text = std::getenv(variable.name);
    const int ranks = text == nullptr ? 0 : parsed(text);
    if (ranks > 0) return Launch{variable.name, ranks, variable.launcher, variable.cure};
  }
  if (std::getenv("PMIX_RANK") == nullptr) return std::nullopt;
  return Launch{"PMIX_RANK", 0, "a PMIx launcher", kSameMpi};
}

int launched_rank() {
  for (const char* name : kRanks) {
    if (const char* text = std::getenv(name)) return parsed(text);
  }
  return 0;
}

}  // namespace torch_accelerated::detail
