// SPDX-License-Identifier: Apache-2.0
#include "trainer/batch_cursor.h"

#include <algorithm>
#include <utility>

namespace torch_accelerated {

BatchCursor::BatchCursor(BatchSource& source, std::optional<std::int64_t> limit,
                         std::int64_t window, Sharing sharing, std::int64_t given)
    : source_(&source),
      length_(source.size()),
      limit_(limit),
      window_(window),
      sharing_(sharing),
      read_(given),
      given_(given) {
  if (length_ && limit_) length_ = std::min(*length_, *limit_);
  if (!length_) ahead_ = read();
}

std::optional<Batch> BatchCursor::next() {
  auto batch = length_ ? read() : std::exchange(ahead_, std::nullopt);
  if (!batch) {
    if (length_) length_ = given_;  // it told more than it had
    return batch;
  }
  if (!length_) ahead_ = read();
  ++given_;
  place(*batch);
  return batch;
}

Batch BatchCursor::nothing() {
  position_ = {
      .rows = 0, .micro_batches = window_, .is_last = true, .is_shard = sharing_.is_sharded};
  return {};
}

bool BatchCursor::has_more() const { return length_ ? given_ < *length_ : ahead_.has_value(); }

std::optional<Batch> BatchCursor::read() {
  const auto end = length_ ? length_ : limit_;
  if (end && read_ >= *end) return std::nullopt;
  ++read_;
  return source_->next();
}

void BatchCursor::place(const Batch& batch) {
  const std::int64_t index = given_ - 1;
  const std::int64_t first = index - index % window_;
  std::int64_t count = window_;
  if (length_) count = std::min(count, *length_ - first);
  position_.is_borrowed = source_->is_borrowed();
  position_.rows = position_.is_borrowed ? 0 : batch.rows();
  position_.micro_batches = sharing_.is_per_rank ? window_ : count;  // one number on all ranks
  // Of sources of their own, ranks don't know each other's rows.
  const bool known = length_.has_value() && !sharing_.is_per_rank;
  position_.window_rows = known ? source_->rows_of(first, count) : std::nullopt;
  position_.is_shard = sharing_.is_sharded;
  position_.is_last = index - first + 1 == count || !has_more();
}

}  // namespace torch_accelerated
