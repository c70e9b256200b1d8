// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/history/metric_values.h"

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

double MetricValues::operator[](std::string_view name) const {
  if (const auto value = find(name)) return *value;
  std::string names;
  for (const auto& [known, value] : entries_) names += (names.empty() ? "" : ", ") + known;
  throw ArgumentError(
      concat("metrics: there is no '", name, "', only: ", names.empty() ? "nothing" : names));
}

std::optional<double> MetricValues::find(std::string_view name) const noexcept {
  for (const auto& [known, value] : entries_) {
    if (known == name) return value;
  }
  return std::nullopt;
}

void MetricValues::set(std::string_view name, double value) {
  for (auto& [known, old] : entries_) {
    if (known == name) {
      old = value;
      return;
    }
  }
  entries_.emplace_back(name, value);
}

void MetricValues::merge(const MetricValues& others) {
  for (const auto& [name, value] : others) set(name, value);
}

}  // namespace torch_accelerated
