// SPDX-License-Identifier: Apache-2.0
#include "data/batch_plan.h"

#include <algorithm>
#include <numeric>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated {
namespace {

void check_options(std::int64_t samples, const DataLoaderOptions& options) {
  OptionCheck check("DataLoader");
  check.require(samples > 0, concat("the dataset is empty (its size is ", samples,
                                    "); give one that has at least one sample"));
  check.require(options.batch_size >= 1,
                concat("batch_size must be >= 1 row, got ", options.batch_size));
  check.require(options.num_workers >= 0,
                concat("num_workers must be >= 0, got ", options.num_workers,
                       "; 0 reads in the caller's thread"));
  check.require(options.prefetch_batches >= 1,
                concat("prefetch_batches must be >= 1, got ", options.prefetch_batches,
                       "; num_workers = 0 reads nothing ahead"));
  check.require(!options.limit_batches || *options.limit_batches >= 1,
                concat("limit_batches must be >= 1, got ", options.limit_batches.value_or(0),
                       "; leave it unset to read all batches"));
  check.require(!options.drop_last || samples <= 0 || options.batch_size <= samples,
                concat("drop_last leaves nothing of ", samples, " samples in batches of ",
                       options.batch_size, "; set drop_last = false or batch_size <= ", samples));
  check.throw_if_any();
}

}  // namespace

BatchPlan::BatchPlan(std::int64_t samples, const DataLoaderOptions& options)
    : samples_(samples),
      batch_size_(options.batch_size),
      seed_(options.seed),
      shuffle_(options.shuffle) {
  check_options(samples, options);
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
