// SPDX-License-Identifier: Apache-2.0
#include "trainer/small_step.h"

#include <ATen/Parallel.h>

#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

// Matrix products decide by themselves how many threads they take, and take too many for small
// ones: docs/benchmarks.md has what that costs.
constexpr std::int64_t kMostProducts = std::int64_t{1} << 22;

// Images and sequences have more dimensions, and tokens are integers: a weight meets each of their
// places.
bool is_of_rows(const torch::Tensor& value) {
  return value.dim() <= 1 || (value.dim() == 2 && value.is_floating_point());
}

}  // namespace

bool is_small_step(const TrainerState& state, const Batch& batch) {
  const auto rows = state.config->per_device_batch_size;
  if (rows == 0 || !state.accelerator->device().is_cpu()) return false;
  if (!state.accelerator->options().small_steps_on_one_thread || state.run->arithmetic) {
    return false;
  }
  for (const auto& [name, value] : batch) {
    if (!is_of_rows(value)) return false;
  }
  std::int64_t weights = 0;
  for (const auto& [name, model] : state.modules) {
    for (const auto& parameter : model.module().parameters()) {
      if (parameter.dim() > 2) return false;
      weights += parameter.numel();
    }
  }
  return weights <= kMostProducts / rows;
}

OneThread::OneThread(bool wanted) : threads_before_(wanted ? at::get_num_threads() : 0) {
  if (threads_before_ > 1) at::set_num_threads(1);
}

OneThread::~OneThread() {
  if (threads_before_ > 1) at::set_num_threads(threads_before_);
}

}  // namespace torch_accelerated
