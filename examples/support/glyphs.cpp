// SPDX-License-Identifier: Apache-2.0
#include "support/glyphs.h"

#include <cmath>
#include <cstddef>
#include <locale>
#include <numbers>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace examples {
namespace {

// The shapes, in hundredths of the box. M x y: begin a stroke. L x y: a line. C x1 y1 x2 y2 x y: a
// cubic Bezier curve. E cx cy rx ry from to: along an ellipse, in degrees clockwise from its right.
using Paths = std::array<const char*, 10>;

constexpr Paths kSans{"M 50 0 E 50 50 30 50 -90 270",
                      "M 30 20 L 52 0 L 52 100",
                      "M 22 22 E 50 28 28 28 -170 30 C 66 58 46 74 20 100 L 80 100",
                      "M 25 13 E 48 26 26 26 -150 90 M 44 51 L 48 51 E 48 75 29 25 -90 150",
                      "M 66 100 L 66 0 L 16 70 L 84 70",
                      "M 76 0 L 30 0 L 27 43 E 48 68 30 32 -130 140",
                      "M 70 4 C 40 8 22 30 22 68 E 50 68 28 32 180 540",
                      "M 18 0 L 80 0 L 40 100",
                      "M 48 51 E 50 26 24 25 90 450 E 50 76 29 25 -90 270",
                      "M 78 32 E 50 32 28 32 0 360 C 78 70 62 92 34 97"};

constexpr Paths kSevenSegments{"M 20 0 L 80 0 L 80 100 L 20 100 L 20 0",
                               "M 70 0 L 70 100",
                               "M 20 0 L 80 0 L 80 50 L 20 50 L 20 100 L 80 100",
                               "M 20 0 L 80 0 L 80 100 L 20 100 M 30 50 L 80 50",
                               "M 20 0 L 20 50 L 80 50 M 80 0 L 80 100",
                               "M 80 0 L 20 0 L 20 50 L 80 50 L 80 100 L 20 100",
                               "M 80 0 L 20 0 L 20 100 L 80 100 L 80 50 L 20 50",
                               "M 20 0 L 80 0 L 80 100",
                               "M 20 0 L 80 0 L 80 100 L 20 100 L 20 0 M 20 50 L 80 50",
                               "M 80 50 L 20 50 L 20 0 L 80 0 L 80 100 L 20 100"};

constexpr Paths kRoundHand{
    "M 60 4 C 20 0 10 60 24 88 C 40 112 84 90 80 44 C 78 16 64 0 46 6",
    "M 50 0 L 50 100",
    "M 20 20 C 30 -10 86 -4 74 34 C 66 60 40 80 22 92 C 14 80 40 70 54 88 C 64 100 76 98 84 88",
    "M 22 10 C 50 -10 84 6 74 28 C 68 42 54 46 40 48 C 64 46 84 60 78 80 C 70 104 36 104 18 88",
    "M 30 4 C 26 30 22 46 22 54 C 40 58 62 54 80 50 M 68 8 C 64 40 60 70 60 100",
    "M 34 8 C 32 24 28 36 28 44 C 60 34 86 52 76 78 C 66 102 34 102 20 88 M 34 8 L 80 2",
    "M 62 0 C 36 20 18 56 24 80 C 30 106 72 104 76 78 C 78 54 40 50 26 76",
    "M 18 8 C 40 2 60 8 82 4 C 64 34 50 64 44 100 M 32 52 L 76 48",
    "M 72 14 C 50 -10 18 4 26 26 C 34 46 76 56 76 80 C 74 106 22 106 24 78 C 26 56 74 44 72 14",
    "M 74 24 C 60 -8 18 0 22 32 C 26 58 70 50 75 20 C 74 50 70 74 62 100"};

constexpr Paths kAngularHand{"M 50 0 L 22 30 L 24 76 L 50 100 L 78 70 L 76 26 L 50 0",
                             "M 28 26 L 54 0 L 54 100 M 28 100 L 80 100",
                             "M 20 22 L 42 0 L 74 10 L 72 36 L 18 98 L 82 94",
                             "M 20 0 L 78 0 L 46 40 L 76 58 L 70 90 L 44 100 L 18 90",
                             "M 60 0 L 16 62 L 84 62 M 62 36 L 62 100",
                             "M 78 2 L 28 2 L 24 46 L 62 42 L 78 66 L 64 96 L 20 96",
                             "M 64 0 L 26 52 L 24 82 L 48 100 L 76 84 L 72 60 L 48 50 L 26 64",
                             "M 20 22 L 20 2 L 80 2 L 48 56 L 42 100",
                             "M 50 0 L 24 22 L 76 72 L 50 100 L 24 74 L 76 24 L 50 0",
                             "M 76 36 L 44 50 L 22 30 L 44 2 L 76 14 L 76 36 L 62 100"};

constexpr Paths kOldPrint{
    "M 50 0 E 50 50 22 50 -90 270",
    "M 34 18 C 44 14 50 8 54 0 L 54 100 M 34 100 L 74 100",
    "M 24 30 C 20 10 40 0 52 0 C 84 0 84 36 60 58 C 44 74 30 86 22 100 L 78 100 L 80 84",
    "M 24 20 C 30 -6 76 -6 74 24 C 73 42 60 48 44 48 C 70 48 80 60 79 74 C 76 108 26 108 21 78",
    "M 62 100 L 62 0 L 16 72 L 82 72 M 46 100 L 78 100",
    "M 74 14 L 76 0 L 34 0 L 30 46 C 44 32 80 36 79 68 C 78 104 28 110 22 82",
    "M 76 18 C 70 -6 22 -8 22 54 C 22 116 80 112 79 68 C 78 34 30 34 23 64",
    "M 22 18 L 22 0 L 80 0 C 62 30 48 60 46 100",
    "M 50 50 E 50 25 20 25 90 450 E 50 75 28 25 -90 270",
    "M 24 82 C 30 106 78 108 78 46 C 78 -16 20 -12 21 32 C 22 66 70 66 77 36"};

constexpr Paths kQuickHand{
    "M 40 8 C 10 20 10 90 44 94 C 84 96 90 20 58 6 C 48 2 40 6 36 16",
    "M 40 16 L 56 4 C 54 40 50 70 46 98",
    "M 18 14 C 40 -6 80 0 70 30 C 62 56 36 78 16 96 C 40 90 62 94 86 92",
    "M 26 2 C 50 0 62 2 76 4 C 64 20 52 32 42 40 C 74 36 88 60 74 80 C 60 100 34 100 20 86",
    "M 72 4 L 20 60 L 78 62 M 72 4 L 66 100",
    "M 80 2 C 56 0 34 4 32 12 C 28 30 26 36 30 42 C 50 40 82 52 74 78 C 66 100 30 100 18 90",
    "M 44 0 C 26 40 20 60 26 80 C 34 104 70 102 72 78 C 72 60 48 54 30 72",
    "M 16 10 C 20 0 50 6 80 0 C 70 40 50 60 36 100",
    "M 66 12 C 30 -8 20 22 48 42 C 84 66 78 96 50 98 C 20 98 20 70 46 48 C 74 26 80 10 60 4",
    "M 70 10 C 40 -4 18 20 26 40 C 36 56 68 44 72 12 L 70 60 C 68 90 46 104 24 92"};

constexpr Paths kWideHand{
    "M 50 14 C 6 8 2 84 44 88 C 92 92 98 22 56 12",
    "M 58 2 C 54 30 48 66 44 98",
    "M 12 30 C 16 6 64 4 64 30 C 62 54 34 70 26 84 C 20 98 4 88 16 80 C 34 72 60 92 92 82",
    "M 18 14 C 44 2 70 8 62 28 C 58 40 46 44 36 46 C 66 44 72 66 58 82 C 42 98 20 96 8 90",
    "M 22 10 C 20 26 14 40 12 50 C 34 54 62 50 90 46 M 62 26 C 60 54 56 78 52 96",
    "M 28 14 C 26 28 20 36 20 42 C 48 36 70 48 64 68 C 56 92 28 96 8 90 M 28 14 C 48 14 66 10 90 8",
    "M 52 4 C 24 26 12 60 18 80 C 30 104 82 94 82 72 C 78 52 36 58 28 86",
    "M 10 24 L 14 12 C 40 14 66 12 88 8 C 72 36 56 64 52 98",
    "M 82 18 C 58 -4 22 6 30 26 C 40 44 70 56 66 76 C 60 100 20 98 22 78 C 26 60 66 40 86 14",
    "M 66 22 C 44 4 14 18 18 40 C 26 58 56 46 68 24 C 68 56 66 80 70 98"};

constexpr std::array<Paths, kGlyphStyles> kStyles{
    kSans, kSevenSegments, kRoundHand, kAngularHand, kOldPrint, kQuickHand, kWideHand};

/// Follows a path and notes the points that it passes.
class PathReader {
 public:
  explicit PathReader(const char* path) : text_(path) { text_.imbue(std::locale::classic()); }

  Glyph read() {
    for (char command = 0; text_ >> command;) follow(command);
    return std::move(glyph_);
  }

 private:
  void follow(char command) {
    switch (command) {
      case 'M':
        glyph_.push_back({point()});
        break;
      case 'L':
        line_to(point());
        break;
      case 'C':
        curve();
        break;
      case 'E':
        ellipse();
        break;
      default:
        throw std::logic_error(std::string("a glyph's path has the unknown command ") + command);
    }
  }

  double number() {
    double value = 0;
    if (!(text_ >> value)) throw std::logic_error("a glyph's path lacks a number");
    return value;
  }

  Point point() {
    const double x = number() / 100;
    return {x, number() / 100};
  }

  // Long lines are cut, so that they bend where the whole glyph is warped.
  void line_to(Point end) {
    const Point begin = glyph_.back().back();
    const int pieces = 1 + static_cast<int>(std::hypot(end.x - begin.x, end.y - begin.y) / 0.2);
    for (int i = 1; i <= pieces; ++i) {
      const double part = static_cast<double>(i) / pieces;
      glyph_.back().push_back(
          {begin.x + (end.x - begin.x) * part, begin.y + (end.y - begin.y) * part});
    }
  }

  void curve() {
    constexpr int kPieces = 9;
    const Point begin = glyph_.back().back();
    const Point pull1 = point();
    const Point pull2 = point();
    const Point end = point();
    for (int i = 1; i <= kPieces; ++i) {
      const double t = static_cast<double>(i) / kPieces;
      const double s = 1 - t;
      const auto blend = [&](double p0, double p1, double p2, double p3) {
        return s * s * s * p0 + 3 * s * s * t * p1 + 3 * s * t * t * p2 + t * t * t * p3;
      };
      glyph_.back().push_back(
          {blend(begin.x, pull1.x, pull2.x, end.x), blend(begin.y, pull1.y, pull2.y, end.y)});
    }
  }

  void ellipse() {
    const Point centre = point();
    const Point radii = point();
    const double from = number();
    const double to = number();
    const int pieces = 1 + static_cast<int>((to - from) / 20);
    for (int i = 0; i <= pieces; ++i) {
      const double degrees = from + (to - from) * i / pieces;
      const double angle = degrees * std::numbers::pi / 180;
      glyph_.back().push_back(
          {centre.x + radii.x * std::cos(angle), centre.y + radii.y * std::sin(angle)});
    }
  }

  std::istringstream text_;
  Glyph glyph_;
};

}  // namespace

GlyphSet make_glyphs() {
  GlyphSet glyphs;
  for (std::size_t digit = 0; digit < glyphs.size(); ++digit) {
    for (std::size_t style = 0; style < kStyles.size(); ++style) {
      glyphs[digit][style] = PathReader(kStyles[style][digit]).read();
    }
  }
  return glyphs;
}

}  // namespace examples
