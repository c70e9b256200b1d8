// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/line_chart.h"

#include <gmock/gmock.h>

#include <limits>

#include "torch_accelerated/base/error.h"

namespace tests {
namespace {

namespace ta = torch_accelerated;
using testing::HasSubstr;
using testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// What a line's path holds, by its colour's place in the palette: the last one drawn.
std::string last_path(const std::string& svg) {
  const auto begin = svg.find("d=\"", svg.rfind("class=\"line\"")) + 3;
  return svg.substr(begin, svg.find('"', begin) - begin);
}

TEST(LineChart, DrawsEachLineBetweenTheAxesUnderItsEscapedLabels) {
  const auto svg = ta::line_chart_svg({{"a < b", {0, 10}, {0, 1}}, {"other", {0, 10}, {1, 1}}},
                                      {.title = "R & D", .x_label = "x", .y_label = "y"});
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\""));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("R &amp; D"));
  EXPECT_EQ(count(svg, "class=\"line\""), 4U);  // two lines, two entries of the legend
  // From the left axis to the right end, and within the axes' height.
  EXPECT_THAT(last_path(svg), testing::StartsWith("M72 "));
  EXPECT_THAT(last_path(svg), HasSubstr("L620 "));
}

TEST(LineChart, LeavesAGapAtPointsThatAreNotFinite) {
  const auto svg =
      ta::line_chart_svg({{"", {0, 1, 2, 3, 4, 5, 6}, {1, 2, kNan, 2, 1, kNan, 1}}}, {});
  EXPECT_EQ(count(last_path(svg), "M"), 3U);
  EXPECT_EQ(count(last_path(svg), "L"), 2U);
  EXPECT_EQ(count(svg, "<circle"), 1U);  // the point that stands alone
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(LineChart, DrawsPowersOfTenAtEqualDistancesAndLeavesOutWhatHasNoLogarithm) {
  const auto svg = ta::line_chart_svg({{"", {0, 0.001, 0.1, 10}, {9, 1, 1, 1}}},
                                      {.log_x = true, .marked_x = {0.1, 1000, -1}});
  EXPECT_THAT(last_path(svg), testing::StartsWith("M72 "));
  EXPECT_THAT(last_path(svg), HasSubstr("L346 "));  // half-way
  EXPECT_THAT(svg, HasSubstr(">0.001</text>"));
  EXPECT_EQ(count(svg, "class=\"marked\""), 1U);  // the one that the points reach
}

TEST(LineChart, DrawsOnePointAConstantAndEndsFarApart) {
  for (const double value : {0.0, 1e-310, 1e300, -5.0}) {
    const auto svg = ta::line_chart_svg({{"", {1, 2}, {value, value}}, {"", {1}, {value}}}, {});
    EXPECT_THAT(svg, Not(testing::AnyOf(HasSubstr("nan"), HasSubstr("inf\"")))) << value;
  }
  const auto wide = ta::line_chart_svg({{"", {0, 1}, {-1e300, 1e300}}}, {});
  EXPECT_THAT(wide, Not(testing::AnyOf(HasSubstr("nan"), HasSubstr("-inf"))));
}

TEST(LineChart, RefusesWhatItCannotDraw) {
  const auto message = [](const std::vector<ta::ChartLine>& lines, ta::ChartOptions options) {
    try {
      ta::line_chart_svg(lines, options);
    } catch (const ta::ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message({}, {}), HasSubstr("no finite point"));
  EXPECT_THAT(message({{"", {kNan}, {1}}}, {}), HasSubstr("no finite point"));
  EXPECT_THAT(message({{"", {-1}, {1}}}, {.log_x = true}), HasSubstr("no finite point"));
  EXPECT_THAT(message({{"", {1, 2}, {1}}}, {}), HasSubstr("line 0 has 2 values of x and 1 of y"));
  EXPECT_THAT(message({{"", {1}, {1}}}, {.height = 20}), HasSubstr("640 by 20 pixels"));
}

}  // namespace
}  // namespace tests
