// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr double kLeft = 72;
constexpr double kRight = 20;
constexpr double kTop = 40;
constexpr double kBottom = 52;
constexpr double kLegendRow = 18;
constexpr double kLetter = 7;  // the width of a letter, about

// Dark enough for white paper and light enough for a black one; told apart without colour by
// dashes.
constexpr std::array<const char*, 6> kColours{"#2f81d0", "#d9622b", "#2f9e5b",
                                              "#b457b8", "#a3802a", "#d1495b"};
constexpr std::array<const char*, 6> kDashes{"", "7 4", "2 3", "10 3 2 3", "12 5", "4 2"};

// A grey of the same contrast to white and to black, as a page may turn dark around the picture.
constexpr const char* kStyle =
    "<style>text{font:12px sans-serif;fill:#6e7781}.title{font-size:15px;font-weight:bold}"
    ".axis{stroke:#8b949e;fill:none}.grid{stroke:#8b949e;stroke-opacity:.25;fill:none}"
    ".marked{stroke:#8b949e;stroke-dasharray:3 3;fill:none}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}</style>\n";

// Beyond it, differences and margins overflow.
constexpr double kMost = 1e300;

bool can_be_drawn(double value) { return std::abs(value) <= kMost; }

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

std::string escaped(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (const char letter : text) {
    switch (letter) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // Control characters are not allowed in XML, not even escaped.
        out += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
  }
  return out;
}

// A hundredth of a pixel is enough, and keeps the file small and the same everywhere.
std::string pixel(double value) {
  const auto hundredths = static_cast<long long>(std::llround(value * 100));
  std::string text = concat(hundredths < 0 ? "-" : "", std::abs(hundredths) / 100);
  const auto rest = std::abs(hundredths) % 100;
  if (rest != 0) text += concat(rest < 10 ? ".0" : ".", rest);
  return text;
}

std::string number(double value) { return concat(value == 0 ? 0.0 : value); }

// From about four to eight round numbers: 1, 2 or 5 times a power of ten apart.
std::vector<double> ticks(const Range& range) {
  const double rough = (range.high - range.low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double times = rough / power;
  const double step = power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10);
  const double first = std::ceil(range.low / step - 1e-9);
  const auto count = static_cast<int>(std::floor(range.high / step - first + 1e-9)) + 1;
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(std::max(count, 0)));
  for (int i = 0; i < count; ++i) values.push_back((first + i) * step);
  return values;
}

class Chart {
 public:
  Chart(const std::vector<ChartLine>& lines, const ChartOptions& options)
      : lines_(lines), options_(options) {
    for (const auto& line : lines_) {
      for (std::size_t i = 0; i < line.x.size(); ++i) {
        if (!is_drawn(line, i)) continue;
        x_.add(scaled(line.x[i]));
        y_.add(line.y[i]);
      }
    }
    if (x_.empty()) throw ArgumentError("line_chart_svg: there is no finite point to draw");
    widen(x_, 0);
    widen(y_, 0.04);
    arrange_legend();
    if (right() - kLeft < 50 || bottom() - top() < 50) {
      throw ArgumentError(concat("line_chart_svg: a picture of ", options.width, " by ",
                                 options.height,
                                 " pixels leaves no room for the lines; enlarge it"));
    }
  }

  std::string svg() {
    out_ = concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", options_.width,
                  "\" height=\"", options_.height, "\" viewBox=\"0 0 ", options_.width, ' ',
                  options_.height, "\" role=\"img\">\n", kStyle);
    if (!options_.title.empty()) {
      out_ += concat("<title>", escaped(options_.title), "</title>\n");
      text(kLeft, 22, options_.title, " class=\"title\"");
    }
    legend();
    x_axis();
    y_axis();
    for (const double value : options_.marked_x) marked(value);
    for (std::size_t i = 0; i < lines_.size(); ++i) line(i);
    return out_ + "</svg>\n";
  }

 private:
  double scaled(double x) const { return options_.log_x ? std::log10(x) : x; }

  bool is_drawn(const ChartLine& line, std::size_t i) const {
    return can_be_drawn(scaled(line.x[i])) && can_be_drawn(line.y[i]);
  }

  // A range without extent gets one, so that its one value stands in the middle.
  static void widen(Range& range, double part) {
    constexpr double kLeast = 1e-290;
    const double size = std::max(std::abs(range.low), std::abs(range.high));
    const double extent = range.high - range.low;
    double margin = part * extent;
    if (extent <= std::max(1e-12 * size, kLeast)) margin = size > kLeast ? size / 2 : 1;
    range.low -= margin;
    range.high += margin;
  }

  double top() const { return kTop + kLegendRow * legend_rows_; }
  double bottom() const { return options_.height - kBottom; }
  double right() const { return options_.width - kRight; }
  double x_at(double x) const {
    return kLeft + (right() - kLeft) * (x / (x_.high - x_.low) - x_.low / (x_.high - x_.low));
  }
  double y_at(double y) const {
    return bottom() - (bottom() - top()) * (y / (y_.high - y_.low) - y_.low / (y_.high - y_.low));
  }

  void text(double x, double y, const std::string& words, const std::string& attributes = "") {
    out_ += concat("<text x=\"", pixel(x), "\" y=\"", pixel(y), '"', attributes, '>',
                   escaped(words), "</text>\n");
  }

  void path(const char* kind, double x1, double y1, double x2, double y2) {
    out_ += concat("<path class=\"", kind, "\" d=\"M", pixel(x1), ' ', pixel(y1), 'L', pixel(x2),
                   ' ', pixel(y2), "\"/>\n");
  }

  std::string stroke(std::size_t i) const {
    const std::string dash = kDashes[i % kDashes.size()];
    return concat(" stroke=\"", kColours[i % kColours.size()], '"',
                  dash.empty() ? "" : concat(" stroke-dasharray=\"", dash, '"'));
  }

  // Entries from left to right, in as many rows as they take.
  void arrange_legend() {
    double x = kLeft;
    for (const auto& entry : lines_) {
      const double width = 40 + kLetter * static_cast<double>(entry.label.size());
      if (!entry.label.empty() && x > kLeft && x + width > right()) {
        x = kLeft;
        ++legend_rows_;
      }
      places_.emplace_back(x, kTop + kLegendRow * legend_rows_);
      if (!entry.label.empty()) x += width;
    }
    if (x > kLeft) ++legend_rows_;
  }

  void legend() {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      if (lines_[i].label.empty()) continue;
      const auto& [x, y] = places_[i];
      out_ += concat("<path class=\"line\"", stroke(i), " d=\"M", pixel(x), ' ', pixel(y - 4),
                     "h22\"/>\n");
      text(x + 27, y, lines_[i].label);
    }
  }

  void x_axis() {
    path("axis", kLeft, bottom(), right(), bottom());
    const bool has_powers = options_.log_x && std::floor(x_.high) - std::ceil(x_.low) >= 1;
    const double apart = has_powers ? std::ceil((x_.high - x_.low) / 8) : 0;
    std::vector<double> at;
    if (has_powers) {
      for (double power = std::ceil(x_.low); power <= x_.high; power += apart) at.push_back(power);
    } else if (options_.log_x) {
      for (const double tick : ticks({std::pow(10, x_.low), std::pow(10, x_.high)})) {
        if (tick > 0) at.push_back(std::log10(tick));
      }
    } else {
      at = ticks(x_);
    }
    for (const double tick : at) {
      path("grid", x_at(tick), top(), x_at(tick), bottom());
      text(x_at(tick), bottom() + 17, number(options_.log_x ? std::pow(10, tick) : tick),
           " text-anchor=\"middle\"");
    }
    text((kLeft + right()) / 2, options_.height - 12.0, options_.x_label,
         " text-anchor=\"middle\"");
  }

  void y_axis() {
    path("axis", kLeft, top(), kLeft, bottom());
    for (const double tick : ticks(y_)) {
      path("grid", kLeft, y_at(tick), right(), y_at(tick));
      text(kLeft - 7, y_at(tick) + 4, number(tick), " text-anchor=\"end\"");
    }
    const double middle = (top() + bottom()) / 2;
    text(14, middle, options_.y_label,
         concat(" text-anchor=\"middle\" transform=\"rotate(-90 14 ", pixel(middle), ")\""));
  }

  void marked(double value) {
    const double x = scaled(value);
    if (x >= x_.low && x <= x_.high) path("marked", x_at(x), top(), x_at(x), bottom());
  }

  void line(std::size_t i) {
    const auto& points = lines_[i];
    std::string path;
    std::string dots;
    bool is_open = false;
    for (std::size_t at = 0; at < points.x.size(); ++at) {
      if (!is_drawn(points, at)) {
        is_open = false;
        continue;
      }
      const auto x = pixel(x_at(scaled(points.x[at])));
      const auto y = pixel(y_at(points.y[at]));
      path += concat(is_open ? 'L' : 'M', x, ' ', y);
      const bool is_alone = !is_open && (at + 1 == points.x.size() || !is_drawn(points, at + 1));
      if (is_alone) {
        dots += concat("<circle cx=\"", x, "\" cy=\"", y, "\" r=\"2.5\" fill=\"",
                       kColours[i % kColours.size()], "\"/>\n");
      }
      is_open = true;
    }
    if (!path.empty()) {
      out_ += concat("<path class=\"line\"", stroke(i), " d=\"", path, "\"/>\n", dots);
    }
  }

  const std::vector<ChartLine>& lines_;
  const ChartOptions& options_;
  Range x_;
  Range y_;
  std::vector<std::pair<double, double>> places_;  // of the legend's entries
  int legend_rows_ = 0;
  std::string out_;
};

}  // namespace

std::string line_chart_svg(const std::vector<ChartLine>& lines, const ChartOptions& options) {
  OptionCheck check("line_chart_svg");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    check.require(lines[i].x.size() == lines[i].y.size(),
                  concat("line ", i, " has ", lines[i].x.size(), " values of x and ",
                         lines[i].y.size(), " of y; give as many of each"));
  }
  check.throw_if_any();
  return Chart(lines, options).svg();
}

}  // namespace torch_accelerated
