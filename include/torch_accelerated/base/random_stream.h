// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>

namespace torch_accelerated {

/// A stream of random numbers that is a pure function of its key (seed, stream_a, stream_b).
///
/// Counter-based: nothing is shared and nothing warms up, so that a stream for each sample costs
/// some ten nanoseconds, and the numbers don't depend on threads, ranks or the order of use.
/// Streams of one seed never overlap, whatever the two stream numbers are. Models
/// std::uniform_random_bit_generator; its own distributions give the same numbers with every
/// standard library. Not for secrets. A stream is used by one thread at a time.
///
/// @par Source  Philox4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
class RandomStream {
 public:
  using result_type = std::uint64_t;

  /// The library's own streams are keyed (seed, epoch, index of the sample); stream_b of 2^64 - 1
  /// is the epoch's order.
  explicit RandomStream(std::uint64_t seed, std::uint64_t stream_a = 0, std::uint64_t stream_b = 0)
      : seed_(seed), stream_a_(stream_a), stream_b_(stream_b) {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  /// The next 64 random bits.
  result_type operator()() {
    if (used_ == buffer_.size()) refill();
    return buffer_[used_++];
  }

  /// A number in [0, 1): a multiple of 2^-53.
  double uniform() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

  /// A number in [low, high), up to rounding.
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// A number of the standard normal distribution (Box and Muller 1958); platforms differ at most
  /// by the last bits of their std::log, std::sin and std::cos.
  double normal();

  /// A whole number in [0, n), each equally likely (Lemire 2019, arXiv:1805.10941).
  ///
  /// @throws ArgumentError  n is 0.
  std::uint64_t below(std::uint64_t n);

 private:
  void refill();

  std::uint64_t seed_;
  std::uint64_t stream_a_;
  std::uint64_t stream_b_;
  std::uint64_t block_ = 0;
  std::array<std::uint64_t, 2> buffer_{};
  std::uint32_t used_ = 2;
  bool has_spare_normal_ = false;
  double spare_normal_ = 0;
};

}  // namespace torch_accelerated
