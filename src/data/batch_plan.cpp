// SPDX-License-Identifier: Apache-2.0
#include "data/batch_plan.h"

#include <algorithm>

#include "base/arithmetic.h"

namespace torch_accelerated {
namespace {

using Rows = BatchPlan::Rows;

// The part of `rows` that is number `part` of `parts`: sizes differ by at most one, the larger
// first.
Rows cut(Rows rows, std::int64_t parts, std::int64_t part) {
  const std::int64_t size = rows.count / parts;
  const std::int64_t larger = rows.count % parts;
  return {rows.first + part * size + std::min(part, larger), size + (part < larger ? 1 : 0)};
}

}  // namespace

BatchPlan::BatchPlan(std::int64_t samples, const DataLoaderOptions& options)
    : samples_(samples),
      batch_size_(options.batch_size),
      window_(options.shards > 0 ? options.shards / options.world_size : options.window),
      shards_(options.shards),
      rank_(options.rank),
      world_size_(options.world_size) {
  batches_ = options.drop_last ? samples / batch_size_ : ceil_divide(samples, batch_size_);
  if (shards_ > 0) batches_ *= window_;
  batches_ = std::min(batches_, options.limit_batches.value_or(batches_));
}

std::int64_t BatchPlan::rows_before(std::int64_t batch) const noexcept {
  if (shards_ > 0) batch = (batch + window_ - 1) / window_;
  return batch > samples_ / batch_size_ ? samples_ : batch * batch_size_;
}

std::int64_t BatchPlan::rows_of_all_ranks(std::int64_t first, std::int64_t count) const noexcept {
  const std::int64_t begin = std::clamp<std::int64_t>(first, 0, batches_);
  const std::int64_t end = begin + std::clamp<std::int64_t>(count, 0, batches_ - begin);
  return rows_before(end) - rows_before(begin);
}

BatchPlan::Rows BatchPlan::rows_of(std::int64_t batch) const noexcept {
  const std::int64_t place = batch % window_;  // within the update
  const std::int64_t first = batch - place;
  const Rows update{rows_before(first), rows_of_all_ranks(first, window_)};
  if (shards_ > 0) return cut(update, shards_, rank_ * window_ + place);
  const Rows part = cut(update, world_size_, rank_);
  const std::int64_t largest = ceil_divide(batch_size_, world_size_);
  const std::int64_t before = std::min(place * largest, part.count);
  return {part.first + before, std::min(largest, part.count - before)};
}

}  // namespace torch_accelerated
