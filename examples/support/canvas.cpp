// SPDX-License-Identifier: Apache-2.0
#include "support/canvas.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace examples {
namespace {

// Farther than any edge fades, so that only the pixels near a line need to be visited.
constexpr double kFar = 2.0;

int first_pixel(double place) { return std::max(0, static_cast<int>(std::ceil(place))); }
int last_pixel(double place) {
  return std::min(Canvas::kSide - 1, static_cast<int>(std::floor(place)));
}

}  // namespace

Canvas::Canvas() {
  drawn_.fill(kFar);
  erased_.fill(kFar);
}

void Canvas::draw_line(Point begin, Point end, double radius) {
  approach(drawn_, begin, end, radius);
}

void Canvas::erase_line(Point begin, Point end, double radius) {
  approach(erased_, begin, end, radius);
}

void Canvas::approach(Field& field, Point begin, Point end, double radius) {
  const Point along{end.x - begin.x, end.y - begin.y};
  const double length_squared = std::max(along.x * along.x + along.y * along.y, 1e-9);
  const double reach = radius + kFar;
  const int left = first_pixel(std::min(begin.x, end.x) - reach);
  const int right = last_pixel(std::max(begin.x, end.x) + reach);
  const int top = first_pixel(std::min(begin.y, end.y) - reach);
  const int bottom = last_pixel(std::max(begin.y, end.y) + reach);
  for (int y = top; y <= bottom; ++y) {
    for (int x = left; x <= right; ++x) {
      const Point from_begin{x - begin.x, y - begin.y};
      const double projection = from_begin.x * along.x + from_begin.y * along.y;
      const double part = std::clamp(projection / length_squared, 0.0, 1.0);
      const double dx = from_begin.x - part * along.x;
      const double dy = from_begin.y - part * along.y;
      double& distance = field[static_cast<std::size_t>(y) * kSide + static_cast<std::size_t>(x)];
      distance = std::min(distance, std::sqrt(dx * dx + dy * dy) - radius);
    }
  }
}

void Canvas::develop(double ink, double softness, std::span<std::uint8_t> pixels) const {
  const auto covered = [&](double distance) {
    return std::clamp(0.5 - distance / softness, 0.0, 1.0);
  };
  for (std::size_t i = 0; i < drawn_.size(); ++i) {
    const double grey = ink * covered(drawn_[i]) * (1 - covered(erased_[i]));
    pixels[i] = static_cast<std::uint8_t>(std::lround(grey));
  }
}

}  // namespace examples
