// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <vector>

namespace examples {

/// A place in a glyph's box: x from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom).
struct Point {
  double x = 0;
  double y = 0;
};

using Stroke = std::vector<Point>;  ///< one pull of the pen, as a chain of short straight lines
using Glyph = std::vector<Stroke>;

inline constexpr int kGlyphStyles = 7;

/// The shapes of the ten digits, each in all styles: print, seven segments, several hands.
using GlyphSet = std::array<std::array<Glyph, kGlyphStyles>, 10>;

GlyphSet make_glyphs();

}  // namespace examples
