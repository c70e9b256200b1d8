// SPDX-License-Identifier: Apache-2.0
#include "data/batch_plan.h"

#include <algorithm>
#include <numeric>

#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated {

BatchPlan::BatchPlan(std::int64_t samples, const DataLoaderOptions& options)
    : samples_(samples),
      batch_size_(options.batch_size),
      seed_(options.seed),
      shuffle_(options.shuffle) {
  const bool short_one = samples % batch_size_ != 0 && !options.drop_last;
  batches_ = samples / batch_size_ + (short_one ? 1 : 0);
  batches_ = std::min(batches_, options.limit_batches.value_or(batches_));
}

std::int64_t BatchPlan::first_row(std::int64_t batch) const noexcept {
  return batch > samples_ / batch_size_ ? samples_ : batch * batch_size_;
}

std::int64_t BatchPlan::rows_of(std::int64_t first, std::int64_t count) const noexcept {
  const std::int64_t begin = std::clamp<std::int64_t>(first, 0, batches_);
  const std::int64_t end = begin + std::clamp<std::int64_t>(count, 0, batches_ - begin);
  return first_row(end) - first_row(begin);
}

void BatchPlan::indices_of(std::int64_t epoch, std::int64_t batch,
                           std::vector<std::int64_t>& indices) const {
  const std::int64_t begin = first_row(batch);
  indices.resize(static_cast<std::size_t>(rows_of(batch, 1)));
  std::iota(indices.begin(), indices.end(), begin);
  if (!shuffle_) return;
  const KeyedPermutation order(samples_, seed_, epoch);
  for (std::int64_t& index : indices) index = order(index);
}

}  // namespace torch_accelerated
