// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated {

/// Which samples stand in which batch of an epoch: a pure function of the options.
class BatchPlan {
 public:
  /// @param options  resolved for `samples`.
  BatchPlan(std::int64_t samples, const DataLoaderOptions& options);

  /// Batches of an epoch; at least 1.
  std::int64_t batches() const noexcept { return batches_; }

  /// Samples of those of the batches [first, first + count) that there are.
  std::int64_t rows_of(std::int64_t first, std::int64_t count) const noexcept;

  /// Puts the samples of a batch, in [0, batches()), in the place of what `indices` holds.
  void indices_of(std::int64_t epoch, std::int64_t batch, std::vector<std::int64_t>& indices) const;

 private:
  std::int64_t first_row(std::int64_t batch) const noexcept;

  std::int64_t samples_;
  std::int64_t batch_size_;
  std::uint64_t seed_;
  bool shuffle_;
  std::int64_t batches_ = 0;
};

}  // namespace torch_accelerated
