// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace torch_accelerated {

/// A random order of the numbers 0 … size - 1 that takes O(1) memory, whatever the size.
///
/// A pure function of (size, seed, epoch), the same on all platforms and in all later versions of
/// the library. Immutable, so that any number of threads may read it at once.
///
/// @par Source  Feistel network with cycle walking, Black and Rogaway 2002, "Ciphers with arbitrary
///              finite domains".
class KeyedPermutation {
 public:
  /// @throws ArgumentError  a size below 1, or a negative epoch.
  KeyedPermutation(std::int64_t size, std::uint64_t seed, std::int64_t epoch);

  /// The number at `position`; takes some tens of nanoseconds.
  ///
  /// @throws ArgumentError  a position outside [0, size()).
  std::int64_t operator()(std::int64_t position) const;

  /// The numbers at the positions first … first + numbers.size() - 1, several times as fast as one
  /// by one.
  ///
  /// @throws ArgumentError  a position outside [0, size()).
  void read(std::int64_t first, std::span<std::int64_t> numbers) const;

  std::int64_t size() const { return size_; }

 private:
  static constexpr std::size_t kMaxRounds = 32;

  // `Count` values at once: their chains of multiplications don't wait for each other.
  template <std::size_t Count>
  void encipher(std::uint64_t* values) const;
  void check(std::int64_t position) const;

  std::int64_t size_;
  int low_bits_ = 0;   // the network's domain is the smallest power of two >= size, cut into a low
  int high_bits_ = 0;  // half and a high half that has as many bits, or one less
  std::size_t rounds_ = 0;
  std::array<std::uint64_t, kMaxRounds> keys_{};
};

}  // namespace torch_accelerated
