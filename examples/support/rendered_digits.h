// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace examples {

/// Grey images of digits, white on black as MNIST's.
struct DigitImages {
  static constexpr std::int64_t kSide = 28;

  std::int64_t count = 0;
  std::vector<std::uint8_t> pixels;  ///< (count, 28, 28)
  std::vector<std::uint8_t> labels;  ///< (count), each 0 to 9
};

/// Draws `count` digits in several styles, moved, warped, smudged and noisy, no two alike.
///
/// An image depends on (seed, its index) alone. Takes some 30 µs an image.
/// @throws ArgumentError  a negative count.
DigitImages render_digits(std::int64_t count, std::uint64_t seed);

}  // namespace examples
