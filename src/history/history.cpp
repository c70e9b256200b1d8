// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/history/history.h"

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

double History::latest(std::string_view name) const {
  if (const auto value = find_latest(name)) return *value;
  if (rows_.empty()) {
    throw ArgumentError(
        concat("history: there is no '", name, "', no epoch has ended since the last reset"));
  }
  return rows_.back().metrics[name];
}

std::optional<double> History::find_latest(std::string_view name) const noexcept {
  for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
    if (const auto value = row->metrics.find(name)) return value;
  }
  return std::nullopt;
}

std::vector<double> History::values(std::string_view name) const {
  std::vector<double> found;
  for (const auto& row : rows_) {
    if (const auto value = row.metrics.find(name)) found.push_back(*value);
  }
  return found;
}

}  // namespace torch_accelerated
