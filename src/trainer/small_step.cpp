// SPDX-License-Identifier: Apache-2.0
#include "trainer/small_step.h"

#include <ATen/Parallel.h>

#include <algorithm>

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

SmallSteps::SmallSteps(const TrainerState& state) {
  const auto& accelerator = *state.accelerator;
  if (!accelerator.device().is_cpu() || !accelerator.options().small_steps_on_one_thread) return;
  if (state.run->arithmetic) return;
  std::int64_t weights = 0;
  for (const auto& [name, model] : state.modules) {
    for (const auto& parameter : model.module().parameters()) {
      if (parameter.dim() > 2) return;
      weights += parameter.numel();
    }
  }
  most_rows_ = kMostProducts / std::max<std::int64_t>(weights, 1);
}

bool SmallSteps::has(const Batch& batch, std::int64_t rows) const {
  return rows <= most_rows_ && std::all_of(batch.begin(), batch.end(), [](const auto& item) {
           return is_of_rows(item.second);
         });
}

OneThread::OneThread(bool wanted) : threads_before_(wanted ? at::get_num_threads() : 0) {
  if (threads_before_ > 1) at::set_num_threads(1);
}

OneThread::~OneThread() {
  if (threads_before_ > 1) at::set_num_threads(threads_before_);
}

}  // namespace torch_accelerated
