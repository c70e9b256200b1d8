// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/pickle_cursor.h"
#include "checkpoint/pickle_value.h"

namespace torch_accelerated {

/// The stack of a pickle machine with its marks, below the last of which nothing is taken, and what
/// the machine remembers. All of it throws a CheckpointError, with the cursor's offset, where
/// something is missing or beyond `PickleLimits`.
class PickleStack {
 public:
  explicit PickleStack(const PickleCursor& cursor) : cursor_(cursor) {}

  void push(PickleValue value);
  void mark();
  const PickleValue& top() const;
  PickleValue pop();
  std::vector<PickleValue> pop_many(std::size_t count);
  std::vector<PickleValue> pop_to_mark();

  /// Remembers the top under the next number; with an index, under that.
  void memoize() { memoize(memo_.size()); }
  void memoize(std::uint64_t index);
  const PickleValue& remembered(std::uint64_t index) const;

  /// How many values there are, those below marks included.
  std::size_t size() const { return values_.size(); }
  bool has_marks() const { return !marks_.empty(); }

 private:
  std::size_t available() const;

  const PickleCursor& cursor_;
  std::vector<PickleValue> values_;
  std::vector<std::size_t> marks_;  // sizes of values_
  std::vector<PickleValue> memo_;
};

}  // namespace torch_accelerated
