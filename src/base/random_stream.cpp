// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/random_stream.h"

#include <cmath>
#include <numbers>

#include "base/philox.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_half(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}
constexpr std::uint64_t joined(std::uint32_t high, std::uint32_t low) {
  return std::uint64_t{high} << 32 | low;
}

// A bijection of 64 bits that sends 0 to 0 (the finaliser of MurmurHash3).
constexpr std::uint64_t mix(std::uint64_t value) {
  value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD;
  value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53;
  return value ^ value >> 33;
}

}  // namespace

void RandomStream::refill() {
  // The counter holds stream_b and the low halves of stream_a and of the block's number. What
  // doesn't fit, the high halves, moves the key by a bijection: two blocks of one seed that differ
  // in any of the 192 bits differ in counter or key. The key is the seed itself as long as stream_a
  // is below 2^32 and the stream shorter than 2^33 numbers.
  const std::uint64_t key = seed_ + mix(joined(high_half(stream_a_), high_half(block_)));
  const PhiloxCounter counter{low_half(block_), low_half(stream_a_), low_half(stream_b_),
                              high_half(stream_b_)};
  const PhiloxCounter bits = philox4x32_10(counter, {low_half(key), high_half(key)});
  buffer_ = {joined(bits[1], bits[0]), joined(bits[3], bits[2])};
  used_ = 0;
  ++block_;
}

double RandomStream::normal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  const double angle = 2.0 * std::numbers::pi * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_normal_ = true;
  return radius * std::cos(angle);
}

std::uint64_t RandomStream::below(std::uint64_t n) {
  if (n == 0) {
    throw ArgumentError(
        "RandomStream::below: n must be >= 1, got 0; the numbers are drawn from [0, n).");
  }
  Uint128 product = Uint128{(*this)()} * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t threshold = (0 - n) % n;
    while (static_cast<std::uint64_t>(product) < threshold) product = Uint128{(*this)()} * n;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

}  // namespace torch_accelerated
