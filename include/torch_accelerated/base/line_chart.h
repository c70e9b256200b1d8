// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace torch_accelerated {

/// One line of a chart; a point that is not finite, or beyond 1e300, leaves a gap.
struct ChartLine {
  std::string label;  ///< its entry in the legend; empty for none
  std::vector<double> x;
  std::vector<double> y;  ///< as many as `x`
};

/// How a chart looks; sizes are in pixels.
struct ChartOptions {
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  bool log_x = false;  ///< points with x <= 0 leave a gap, too
  int width = 640;
  int height = 400;
  std::vector<double> marked_x = {};  ///< each a vertical line, where the points reach that far
};

/// Draws lines over one pair of axes, as the text of an SVG file that is legible on light and on
/// dark backgrounds.
/// @throws ArgumentError  no finite point at all, a line whose x and y differ in length, a picture
///                        too small for its axes.
std::string line_chart_svg(const std::vector<ChartLine>& lines, const ChartOptions& options);

}  // namespace torch_accelerated
