// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Where batches come from, one after the other: the DataLoader, or a user's own loader or stream.
///
/// Called from one thread. `start_epoch` comes before the first `next` of each epoch. A source that
/// doesn't tell its size is read one batch ahead, so that its last one is known to be the last: a
/// batch must keep its numbers until the next but one is asked for.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  /// The next batch of this epoch, nothing at its end.
  virtual std::optional<Batch> next() = 0;

  /// How many batches an epoch has; nothing where it isn't known.
  virtual std::optional<std::int64_t> size() const { return std::nullopt; }

  /// Goes to the beginning of `epoch`, counted from 0.
  virtual void start_epoch(std::int64_t /*epoch*/) {}

  /// Goes to where `batches` of `epoch` have been given, so that a run can go on within an epoch.
  /// @return whether it can; where it can't, such a run begins the epoch again.
  virtual bool set_position(std::int64_t /*epoch*/, std::int64_t batches) { return batches == 0; }

  /// From the next epoch on, `batches` make an update; for sources that cut an update's rows.
  virtual void set_window(std::int64_t /*batches*/) {}

  /// Whether the row of the batch that `next` gave last is another rank's, lent so that this rank
  /// takes part in what layers exchange; it weighs nothing.
  virtual bool is_borrowed() const { return false; }

  /// The rows of batches [first, first + count) of an epoch, where they are known before the
  /// batches are read: with it, gradients of accumulated micro-batches need no correction.
  virtual std::optional<std::int64_t> rows_of(std::int64_t /*first*/,
                                              std::int64_t /*count*/) const {
    return std::nullopt;
  }
};

}  // namespace torch_accelerated
