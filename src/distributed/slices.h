// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace torch_accelerated::detail {

/// Two ranks never write to the same line of a cache.
inline constexpr std::int64_t kCacheLine = 64;

/// What a summand of `bytes` takes among others, so that each begins where any dtype may.
constexpr std::int64_t aligned(std::int64_t bytes) { return (bytes + 7) / 8 * 8; }

/// Bytes cut into one slice for each rank, at multiples of a cache line; slices may be empty.
class Slices {
 public:
  /// @param offset  of the first byte, from where multiples of a cache line are counted.
  Slices(std::int64_t bytes, int ranks, std::int64_t offset = 0)
      : bytes_(bytes), ranks_(ranks), offset_(offset % kCacheLine) {}

  std::int64_t begin_of(int rank) const {
    if (rank == 0) return 0;
    if (rank == ranks_) return bytes_;
    const auto lines = (bytes_ + offset_ + kCacheLine - 1) / kCacheLine;
    return std::clamp<std::int64_t>(lines * rank / ranks_ * kCacheLine - offset_, 0, bytes_);
  }
  std::int64_t bytes_of(int rank) const { return begin_of(rank + 1) - begin_of(rank); }

 private:
  std::int64_t bytes_;
  int ranks_;
  std::int64_t offset_;
};

}  // namespace torch_accelerated::detail
