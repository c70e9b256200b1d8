// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/history/metric_values.h"

#include "base/nearest.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

double MetricValues::operator[](std::string_view name) const {
  if (const auto value = find(name)) return *value;
  if (empty()) throw ArgumentError(concat("metrics: there is no '", name, "', nor any other"));
  std::vector<std::string> names;
  names.reserve(size());
  std::string list;
  for (const auto& [known, value] : entries_) {
    names.push_back(known);
    list += (list.empty() ? "" : ", ") + known;
  }
  throw ArgumentError(concat("metrics: there is no '", name, "'; did you mean '",
                             nearest(name, names), "'? There are: ", list));
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
