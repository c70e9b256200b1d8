// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/history/history.h"

#include "base/nearest.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

double History::latest(std::string_view name) const {
  if (const auto value = find_latest(name)) return *value;
  if (empty()) {
    throw ArgumentError(
        concat("history: there is no '", name, "', no epoch has ended since the last reset"));
  }
  MetricValues all;
  for (const auto& row : rows()) all.merge(row.metrics);
  return all[name];
}

std::optional<double> History::find_latest(std::string_view name) const noexcept {
  const auto& all = rows();
  for (auto row = all.rbegin(); row != all.rend(); ++row) {
    if (const auto value = row->metrics.find(name)) return value;
  }
  return std::nullopt;
}

std::vector<double> History::values(std::string_view name) const {
  std::vector<double> found;
  for (const auto& row : rows()) {
    if (const auto value = row.metrics.find(name)) found.push_back(*value);
  }
  return found;
}

}  // namespace torch_accelerated
