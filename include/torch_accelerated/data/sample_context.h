// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "torch_accelerated/base/random_stream.h"

namespace torch_accelerated {

/// What a dataset is told beside the indices: enough to draw random numbers that depend on the
/// sample alone, and not on the thread or the rank that reads it.
struct SampleContext {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;

  /// The stream of random numbers of the sample at `index`, keyed by (seed, epoch, index).
  RandomStream generator(std::int64_t index) const;
};

}  // namespace torch_accelerated
