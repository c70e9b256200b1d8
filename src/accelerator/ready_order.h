// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace torch_accelerated {

/// Which buckets may be reduced while backward is still going on: one whose gradients are all
/// there, after all buckets before it. So every rank starts them in one order, whichever of its
/// gradients come first.
class ReadyOrder {
 public:
  /// @param bucket_of  the bucket of each parameter.
  ReadyOrder(std::vector<std::size_t> bucket_of, std::size_t buckets)
      : bucket_of_(std::move(bucket_of)), missing_(buckets) {}

  /// A backward begins.
  void begin() {
    next_ = 0;
    seen_.clear();
    missing_.assign(missing_.size(), 0);
    for (const std::size_t bucket : bucket_of_) ++missing_[bucket];
  }

  /// The gradient of `parameter` is there.
  void note(std::size_t parameter) {
    if (std::find(seen_.begin(), seen_.end(), parameter) != seen_.end()) return;
    seen_.push_back(parameter);
    --missing_[bucket_of_[parameter]];
  }

  /// Takes the next bucket, where it is ready; all but the last, which waits for what rides behind.
  bool take(std::size_t& bucket) {
    if (next_ + 1 >= missing_.size() || missing_[next_] > 0) return false;
    bucket = next_++;
    return true;
  }

  /// The first bucket that has not been taken.
  std::size_t next() const noexcept { return next_; }

  /// The parameters in the order in which their gradients came.
  const std::vector<std::size_t>& seen() const noexcept { return seen_; }

 private:
  std::vector<std::size_t> bucket_of_;
  std::vector<std::size_t> missing_;  // gradients, of each bucket
  std::vector<std::size_t> seen_;
  std::size_t next_ = 0;
};

}  // namespace torch_accelerated
