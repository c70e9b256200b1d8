// SPDX-License-Identifier: Apache-2.0
#include "support/rendered_digits.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <string>

#include "support/canvas.h"
#include "support/glyphs.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/random_stream.h"

namespace examples {
namespace {

using torch_accelerated::RandomStream;

constexpr double kCentre = (Canvas::kSide - 1) / 2.0;
constexpr double kGlyphHeight = 19.0;  // pixels, before scaling

/// One writer's hand: where a point of a glyph's box comes to lie on the canvas.
class Hand {
 public:
  explicit Hand(RandomStream& stream) {
    const double scale = kGlyphHeight * stream.uniform(0.85, 1.1);
    const double aspect = stream.uniform(0.85, 1.2);
    const double slant = stream.uniform(-0.1, 0.35);
    const double turn = stream.uniform(-0.2, 0.2);
    const double width = scale * aspect;
    x_from_ = {width * std::cos(turn), -scale * (slant * std::cos(turn) + std::sin(turn))};
    y_from_ = {width * std::sin(turn), scale * (std::cos(turn) - slant * std::sin(turn))};
    shift_ = {stream.uniform(-1.2, 1.2), stream.uniform(-1.2, 1.2)};
    for (Wave& wave : waves_) wave = Wave(stream);
  }

  Point place(Point point) const {
    double x = point.x - 0.5;
    double y = point.y - 0.5;
    for (const Wave& wave : waves_) {
      const double swing = std::sin(wave.across.x * x + wave.across.y * y + wave.phase);
      x += wave.push.x * swing;
      y += wave.push.y * swing;
    }
    return {kCentre + shift_.x + x_from_.x * x + x_from_.y * y,
            kCentre + shift_.y + y_from_.x * x + y_from_.y * y};
  }

 private:
  // A smooth wobble: waves of about one glyph's length that push the points about.
  struct Wave {
    Wave() = default;
    explicit Wave(RandomStream& stream)
        : across{stream.uniform(-7, 7), stream.uniform(-7, 7)},
          push{stream.uniform(-0.06, 0.06), stream.uniform(-0.06, 0.06)},
          phase(stream.uniform(0, 2 * std::numbers::pi)) {}
    Point across;
    Point push;
    double phase = 0;
  };

  Point x_from_;
  Point y_from_;
  Point shift_;
  std::array<Wave, 3> waves_;
};

void draw_glyph(const Glyph& glyph, const Hand& hand, RandomStream& stream, Canvas& canvas) {
  const double radius = stream.uniform(0.45, 1.7);
  const double swell = radius * stream.uniform(0, 0.4);  // the pen is pressed unevenly
  const double phase = stream.uniform(0, 2 * std::numbers::pi);
  for (const Stroke& stroke : glyph) {
    Point begin = hand.place(stroke.front());
    for (std::size_t i = 1; i < stroke.size(); ++i) {
      const Point end = hand.place(stroke[i]);
      const double turn = phase + 0.4 * static_cast<double>(i);
      canvas.draw_line(begin, end, radius + swell * std::sin(turn));
      begin = end;
    }
  }
}

Point anywhere(RandomStream& stream) {
  return {stream.uniform(0, Canvas::kSide), stream.uniform(0, Canvas::kSide)};
}

// Scratches that take ink away, and short hairs that bring some.
void blemish(RandomStream& stream, Canvas& canvas) {
  if (stream.uniform() < 0.2) {
    const Point begin = anywhere(stream);  // named, so that they are drawn in this order
    const Point end = anywhere(stream);
    canvas.erase_line(begin, end, stream.uniform(0.5, 1.5));
  }
  if (stream.uniform() < 0.2) {
    const Point begin = anywhere(stream);
    const Point end{begin.x + stream.uniform(-8, 8), begin.y + stream.uniform(-8, 8)};
    canvas.draw_line(begin, end, stream.uniform(0.2, 0.7));
  }
}

// Adds to each pixel the sum of four random bytes about their mean, nearly normal.
void add_noise(RandomStream& stream, std::span<std::uint8_t> pixels) {
  constexpr double kDeviationOfSum = 147.8;  // sqrt(4 * (256^2 - 1) / 12)
  const double deviation = stream.uniform() < 0.5 ? 0 : stream.uniform(0, 30);
  if (deviation == 0) return;
  for (std::size_t i = 0; i < pixels.size(); i += 2) {
    std::uint64_t bits = stream();
    for (std::size_t j = i; j < std::min(i + 2, pixels.size()); ++j, bits >>= 32) {
      const auto sum = static_cast<int>((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) +
                                        (bits >> 24 & 255));
      const double grey = pixels[j] + (sum - 510) * (deviation / kDeviationOfSum);
      pixels[j] = static_cast<std::uint8_t>(std::clamp(grey + 0.5, 0.0, 255.0));
    }
  }
}

std::uint8_t render_digit(const GlyphSet& glyphs, RandomStream stream,
                          std::span<std::uint8_t> pixels) {
  const std::uint64_t digit = stream.below(glyphs.size());
  const Glyph& glyph = glyphs[digit][stream.below(kGlyphStyles)];
  const Hand hand(stream);
  Canvas canvas;
  draw_glyph(glyph, hand, stream, canvas);
  blemish(stream, canvas);
  const double ink = stream.uniform(180, 255);
  canvas.develop(ink, stream.uniform(0.8, 2.2), pixels);
  add_noise(stream, pixels);
  return static_cast<std::uint8_t>(digit);
}

}  // namespace

DigitImages render_digits(std::int64_t count, std::uint64_t seed) {
  if (count < 0) {
    throw torch_accelerated::ArgumentError("render_digits: count must be >= 0, got " +
                                           std::to_string(count) + "; MNIST has 70000.");
  }
  constexpr auto kPixels = static_cast<std::size_t>(DigitImages::kSide * DigitImages::kSide);
  const auto images = static_cast<std::size_t>(count);
  const GlyphSet glyphs = make_glyphs();
  DigitImages digits{count, std::vector<std::uint8_t>(images * kPixels),
                     std::vector<std::uint8_t>(images)};
  for (std::size_t i = 0; i < images; ++i) {
    digits.labels[i] = render_digit(glyphs, RandomStream(seed, 0, i),
                                    std::span(digits.pixels).subspan(i * kPixels, kPixels));
  }
  return digits;
}

}  // namespace examples
