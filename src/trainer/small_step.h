// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

struct TrainerState;

/// Whether a second thread takes longer to begin than it helps in a training step on the CPU:
/// layers of vectors and matrices on rows of numbers, at most 2^22 products of a weight and a row.
/// Known before the first step, so that a run that goes on takes the same way.
/// @param batch  of which only the dtypes and the numbers of dimensions count.
bool is_small_step(const TrainerState& state, const Batch& batch);

/// LibTorch's operations have one thread while it is alive, where `wanted`.
class OneThread {
 public:
  explicit OneThread(bool wanted);
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_before_;  // 0 where they stay
};

}  // namespace torch_accelerated
