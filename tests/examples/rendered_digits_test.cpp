// SPDX-License-Identifier: Apache-2.0
#include "support/rendered_digits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "support/glyphs.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

namespace examples {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kPixels = 784;

std::string digest(const DigitImages& digits) {
  torch_accelerated::Sha256 hash;
  hash.update(digits.pixels.data(), digits.pixels.size());
  hash.update(digits.labels.data(), digits.labels.size());
  return hash.hex_digest();
}

TEST(RenderedDigits, AreAPureFunctionOfTheSeed) {
  EXPECT_EQ(digest(render_digits(300, 7)), digest(render_digits(300, 7)));
  EXPECT_NE(digest(render_digits(300, 7)), digest(render_digits(300, 8)));
#if defined(__x86_64__)
  // Elsewhere the compiler may contract multiplications and additions, which moves a grey value.
  EXPECT_EQ(digest(render_digits(1000, 42)),
            "ebb9faf0ef4b7317e76e2563732ddf2df89d4be7a8a2e49643debf58c6fe59e7");
#endif
}

TEST(RenderedDigits, DontDependOnHowManyAreMade) {
  const DigitImages few = render_digits(10, 3);
  const DigitImages many = render_digits(20, 3);
  for (std::size_t i = 0; i < few.pixels.size(); ++i) ASSERT_EQ(few.pixels[i], many.pixels[i]);
  for (std::size_t i = 0; i < few.labels.size(); ++i) ASSERT_EQ(few.labels[i], many.labels[i]);
}

TEST(RenderedDigits, HaveAllLabelsAboutEquallyOften) {
  const DigitImages digits = render_digits(5000, 1);
  std::array<int, 10> counts{};
  for (std::uint8_t label : digits.labels) {
    ASSERT_LT(label, 10);
    ++counts[label];
  }
  for (int count : counts) EXPECT_NEAR(count, 500, 5 * std::sqrt(450.0));
}

TEST(RenderedDigits, ShowInkInTheMiddle) {
  const DigitImages digits = render_digits(500, 2);
  for (std::size_t image = 0; image < 500; ++image) {
    std::array<int, 2> ink{};  // in the middle 20 x 20 pixels, in the margin
    for (std::size_t i = 0; i < kPixels; ++i) {
      const std::size_t x = i % 28;
      const std::size_t y = i / 28;
      const bool middle = x >= 4 && x < 24 && y >= 4 && y < 24;
      if (digits.pixels[image * kPixels + i] > 90) ++ink[middle ? 0 : 1];
    }
    EXPECT_GE(ink[0], 12) << image;
    EXPECT_LT(ink[1], ink[0]) << image;
  }
}

// The mean images of two classes are farther apart than two halves of one class.
TEST(RenderedDigits, LookDifferentBetweenClasses) {
  const DigitImages digits = render_digits(4000, 4);
  std::array<std::array<std::vector<double>, 2>, 10> means;
  std::array<std::array<double, 2>, 10> counts{};
  for (auto& halves : means) halves.fill(std::vector<double>(kPixels));
  for (std::size_t image = 0; image < 4000; ++image) {
    const std::size_t label = digits.labels[image];
    ++counts[label][image % 2];
    for (std::size_t i = 0; i < kPixels; ++i) {
      means[label][image % 2][i] += digits.pixels[image * kPixels + i];
    }
  }
  const auto distance = [&](std::size_t first, std::size_t second) {
    double squares = 0;
    for (std::size_t i = 0; i < kPixels; ++i) {
      const double difference =
          means[first][0][i] / counts[first][0] - means[second][1][i] / counts[second][1];
      squares += difference * difference;
    }
    return std::sqrt(squares);
  };
  for (std::size_t first = 0; first < 10; ++first) {
    for (std::size_t second = 0; second < 10; ++second) {
      if (first == second) continue;
      EXPECT_GT(distance(first, second), 1.5 * distance(first, first)) << first << ' ' << second;
    }
  }
}

TEST(RenderedDigits, NeedACount) {
  EXPECT_EQ(render_digits(0, 1).pixels.size(), 0U);
  try {
    render_digits(-1, 1);
    FAIL() << "no error";
  } catch (const torch_accelerated::ArgumentError& error) {
    EXPECT_THAT(error.what(), HasSubstr("count must be >= 0, got -1"));
  }
}

TEST(Glyphs, HaveStrokesInsideTheirBox) {
  for (const auto& styles : make_glyphs()) {
    for (const Glyph& glyph : styles) {
      ASSERT_FALSE(glyph.empty());
      for (const Stroke& stroke : glyph) {
        EXPECT_GE(stroke.size(), 2U);
        for (const Point point : stroke) {
          EXPECT_GE(point.x, -0.01);
          EXPECT_LE(point.x, 1.01);
          EXPECT_GE(point.y, -0.06);
          EXPECT_LE(point.y, 1.06);
        }
      }
    }
  }
}

}  // namespace
}  // namespace examples
