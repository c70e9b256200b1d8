// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "support/glyphs.h"

namespace examples {

/// A small picture that is drawn with round pens and developed into grey bytes at the end.
class Canvas {
 public:
  static constexpr int kSide = 28;

  Canvas();

  /// Draws a straight line between two places in pixels; the pen's radius is in pixels, too.
  void draw_line(Point begin, Point end, double radius);

  /// Wipes out what lies within `radius` of the line, and what will be drawn there.
  void erase_line(Point begin, Point end, double radius);

  /// Writes ink where a line was drawn; its edges fade over `softness` pixels.
  void develop(double ink, double softness, std::span<std::uint8_t> pixels) const;

 private:
  using Field = std::array<double, kSide * kSide>;

  static void approach(Field& field, Point begin, Point end, double radius);

  Field drawn_;   // each pixel's distance to the edge of the nearest line, negative inside
  Field erased_;  // the same for what was erased
};

}  // namespace examples
