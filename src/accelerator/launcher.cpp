// SPDX-License-Identifier: Apache-2.0
#include "accelerator/launcher.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr std::array<const char*, 4> kWorldSizeVariables = {
    "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "MPI_LOCALNRANKS"};

// The number that `text` is, 0 if it is none: a malformed variable announces no ranks.
long parsed(const char* text) {
  long value = 0;
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, value);
  return result.ec == std::errc() && result.ptr == end ? value : 0;
}

}  // namespace

void check_single_process() {
  for (const char* variable : kWorldSizeVariables) {
    const char* text = std::getenv(variable);
    if (text == nullptr || parsed(text) <= 1) continue;
    throw StateError(concat("Accelerator: ", variable, "=", text,
                            " announces a run of several ranks, but this version trains in one "
                            "process; start it without mpirun or srun, or with one rank"));
  }
}

}  // namespace torch_accelerated
