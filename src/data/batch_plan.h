// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated {

/// Which places of an epoch's order stand in which batch of a rank: a pure function of the options.
///
/// The rows of each update are the same on any number of ranks. They are cut into consecutive
/// parts, one for each rank, whose sizes differ by at most one, and each part into the update's
/// batches. With shards they are cut into that many parts instead, of which each rank has as many,
/// one a batch.
class BatchPlan {
 public:
  /// @param options  resolved for `samples`.
  BatchPlan(std::int64_t samples, const DataLoaderOptions& options);

  /// Consecutive places of the order, also none.
  struct Rows {
    std::int64_t first;
    std::int64_t count;
  };

  /// Batches of an epoch, the same on all ranks; at least 1.
  std::int64_t batches() const noexcept { return batches_; }

  /// Rows of this rank in a batch, in [0, batches()).
  Rows rows_of(std::int64_t batch) const noexcept;

  /// The first place of the update in which a batch stands.
  std::int64_t first_of_all_ranks(std::int64_t batch) const noexcept {
    return rows_before(batch - batch % window_);
  }

  /// Rows of all ranks in those of the batches [first, first + count) that there are. With shards,
  /// `first` begins an update.
  std::int64_t rows_of_all_ranks(std::int64_t first, std::int64_t count) const noexcept;

 private:
  std::int64_t rows_before(std::int64_t batch) const noexcept;

  std::int64_t samples_;
  std::int64_t batch_size_;  // of all ranks; of an update with shards
  std::int64_t window_;      // batches of an update
  std::int64_t shards_;      // 0: none
  int rank_;
  int world_size_;
  std::int64_t batches_ = 0;
};

}  // namespace torch_accelerated
