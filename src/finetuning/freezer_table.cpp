// SPDX-License-Identifier: Apache-2.0
// A model's groups and layers, for people.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "torch_accelerated/finetuning/model_freezer.h"

namespace torch_accelerated {
namespace {

using Line = std::array<std::string, 6>;

constexpr std::size_t kNumbers = 4;  // the column of them, aligned to the right

std::string answer(const LayerInfo& info) {
  if (info.parameters == 0) return info.is_frozen ? "no" : "";
  if (info.trainable == 0) return "no";
  return info.trainable == info.parameters ? "yes" : concat(info.trainable);
}

std::string padded(const std::string& text, std::size_t width, bool to_the_right) {
  const std::string space(width - text.size(), ' ');
  return to_the_right ? space + text : text + space;
}

std::string joined(const std::vector<Line>& lines) {
  std::array<std::size_t, std::tuple_size_v<Line>> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t i = 0; i < line.size(); ++i) {
      row += (i == 0 ? "" : "  ") + padded(line[i], widths[i], i == kNumbers);
    }
    text += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace

std::string ModelFreezer::describe() const {
  std::vector<Line> lines{{"group", "layer", "name", "type", "parameters", "trainable"}};
  std::int64_t group_index = 0;
  std::int64_t layer_index = 0;
  const auto line_of = [](std::string group, std::string layer, const LayerInfo& info) {
    return Line{std::move(group), std::move(layer),        info.name,
                info.type,        concat(info.parameters), answer(info)};
  };
  for (const auto& group : groups()) {
    lines.push_back(line_of(concat(group_index++), "", group));
    for (const auto& layer : group.layers) {
      lines.push_back(line_of("", concat(layer_index++), layer));
    }
  }
  return joined(lines);
}

}  // namespace torch_accelerated
