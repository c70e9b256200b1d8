// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

struct TrainerState;

/// Those training steps on the CPU in which a second thread takes longer to begin than it helps:
/// layers of vectors and matrices on rows of numbers, at most 2^22 products of a weight and a row.
class SmallSteps {
 public:
  /// Of a run that begins, whose modules have all their parameters.
  explicit SmallSteps(const TrainerState& state);

  /// Whether the step on `rows` rows is one of them; goes by nothing else than the batch, so that a
  /// run that is resumed takes the same way.
  bool has(const Batch& batch, std::int64_t rows) const;

 private:
  std::int64_t most_rows_ = -1;
};

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
