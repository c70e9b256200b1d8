// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/permutation.h"

#include <bit>
#include <cstddef>
#include <limits>

#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/random_stream.h"

namespace torch_accelerated {
namespace {

constexpr std::size_t kRounds = 12;
constexpr int kFewBits = 10;
constexpr std::size_t kLanes = 8;

// The round function: 64 well-mixed bits of `half` under `key`, cut to the width of the other half.
inline std::uint64_t scrambled(std::uint64_t half, std::uint64_t key, std::uint64_t mask) {
  std::uint64_t bits = (half ^ key) * 0x9E3779B97F4A7C15;
  bits = (bits ^ bits >> 32) * 0xD6E8FEB86659FD93;
  return bits >> 32 & mask;
}

}  // namespace

KeyedPermutation::KeyedPermutation(std::int64_t size, std::uint64_t seed, std::int64_t epoch)
    : size_(size) {
  if (size < 1) {
    throw ArgumentError(concat("KeyedPermutation: size must be >= 1, got ", size,
                               "; an order needs at least one row."));
  }
  if (epoch < 0) {
    throw ArgumentError(
        concat("KeyedPermutation: epoch must be >= 0, got ", epoch, "; epochs count from 0."));
  }
  const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size) - 1));
  high_bits_ = bits / 2;
  low_bits_ = bits - high_bits_;
  RandomStream stream(seed, static_cast<std::uint64_t>(epoch),
                      std::numeric_limits<std::uint64_t>::max());
  for (std::uint64_t& key : keys_) key = stream();
  // A network over a few elements needs many rounds before all their orders are equally likely.
  rounds_ = bits <= kFewBits ? kMaxRounds : kRounds;
}

template <std::size_t Count>
void KeyedPermutation::encipher(std::uint64_t* values) const {
  const std::uint64_t low_mask = (std::uint64_t{1} << low_bits_) - 1;
  const std::uint64_t high_mask = (std::uint64_t{1} << high_bits_) - 1;
  std::array<std::uint64_t, Count> low;
  std::array<std::uint64_t, Count> high;
  for (std::size_t i = 0; i < Count; ++i) {
    low[i] = values[i] & low_mask;
    high[i] = values[i] >> low_bits_;
  }
  for (std::size_t round = 0; round < rounds_; round += 2) {
    for (std::size_t i = 0; i < Count; ++i) low[i] ^= scrambled(high[i], keys_[round], low_mask);
    for (std::size_t i = 0; i < Count; ++i) {
      high[i] ^= scrambled(low[i], keys_[round + 1], high_mask);
    }
  }
  for (std::size_t i = 0; i < Count; ++i) values[i] = high[i] << low_bits_ | low[i];
}

void KeyedPermutation::check(std::int64_t position) const {
  if (position >= 0 && position < size_) return;
  throw ArgumentError(concat("KeyedPermutation: position must be in [0, ", size_, "), got ",
                             position, "; each epoch has as many positions as rows."));
}

std::int64_t KeyedPermutation::operator()(std::int64_t position) const {
  std::int64_t number = 0;
  read(position, {&number, 1});
  return number;
}

void KeyedPermutation::read(std::int64_t first, std::span<std::int64_t> numbers) const {
  if (numbers.empty()) return;
  check(first);
  check(first + static_cast<std::int64_t>(numbers.size()) - 1);
  // The domain is less than twice the size, so that two walks do on average, and a walk ends
  // because it comes back to the position itself at the latest. A lane whose walk has ended takes
  // the next position.
  const auto size = static_cast<std::uint64_t>(size_);
  std::array<std::uint64_t, kLanes> values{};
  std::array<std::size_t, kLanes> places{};
  std::size_t begun = 0;
  std::size_t walking = 0;
  const auto begin = [&](std::size_t lane) {
    places[lane] = begun;
    values[lane] = static_cast<std::uint64_t>(first) + begun++;
  };
  while (walking < kLanes && begun < numbers.size()) begin(walking++);
  while (walking > 0) {
    if (walking == 1) {
      encipher<1>(values.data());
    } else {
      encipher<kLanes>(values.data());
    }
    for (std::size_t lane = 0; lane < walking;) {
      if (values[lane] >= size) {
        ++lane;
        continue;
      }
      numbers[places[lane]] = static_cast<std::int64_t>(values[lane]);
      if (begun < numbers.size()) {
        begin(lane++);
      } else {
        --walking;
        values[lane] = values[walking];
        places[lane] = places[walking];
      }
    }
  }
}

}  // namespace torch_accelerated
