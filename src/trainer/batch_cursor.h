// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/data/batch_source.h"

namespace torch_accelerated {

/// How a source stands to the ranks of a run.
struct Sharing {
  bool is_per_rank = false;  ///< whether each rank has a source of its own, of any length
  bool is_sharded = false;   ///< whether its batches are the shards of a deterministic run
};

/// Walks through one epoch of a source and says where each batch stands in its window. A source of
/// unknown length is read one batch ahead, so that its last one is known to be the last.
class BatchCursor {
 public:
  /// @param limit   batches at most.
  /// @param window  batches of an update.
  /// @param given   batches of the epoch that the source is behind already; they count for `limit`.
  BatchCursor(BatchSource& source, std::optional<std::int64_t> limit, std::int64_t window,
              Sharing sharing = {}, std::int64_t given = 0);

  /// The next batch, nothing at the end of the epoch or at the limit.
  std::optional<Batch> next();

  /// A batch without rows that ends the window: what a rank trains on whose own source has ended
  /// before those of others.
  Batch nothing();

  /// Of the batch that `next` gave last.
  const WindowPosition& position() const noexcept { return position_; }

  bool has_more() const;

 private:
  std::optional<Batch> read();
  void place(const Batch& batch);

  BatchSource* source_;
  std::optional<std::int64_t> length_;  // where it is known
  std::optional<std::int64_t> limit_;
  std::int64_t window_;
  Sharing sharing_;
  std::int64_t read_ = 0;
  std::int64_t given_ = 0;
  std::optional<Batch> ahead_;
  WindowPosition position_;
};

}  // namespace torch_accelerated
