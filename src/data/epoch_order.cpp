// SPDX-License-Identifier: Apache-2.0
#include "data/epoch_order.h"

#include <numeric>

namespace torch_accelerated {

void EpochOrder::read(std::int64_t epoch, std::int64_t first, std::span<std::int64_t> samples) {
  if (!shuffle_) {
    std::iota(samples.begin(), samples.end(), first);
    return;
  }
  if (epoch != epoch_) {
    permutation_.emplace(samples_, seed_, epoch);
    epoch_ = epoch;
  }
  permutation_->read(first, samples);
}

}  // namespace torch_accelerated
