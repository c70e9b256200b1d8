// SPDX-License-Identifier: Apache-2.0
#include "trainer/epoch_means.h"

#include <algorithm>

namespace torch_accelerated {

void EpochMeans::add(std::string_view name, const Mean& mean, std::int64_t rows, bool only_finite) {
  const auto same_name = [name](const auto& entry) { return entry.first == name; };
  auto place = std::find_if(means_.begin(), means_.end(), same_name);
  if (place == means_.end()) {
    means_.emplace_back(name, RunningMean());
    place = std::prev(means_.end());
  }
  place->second.add(mean, rows, only_finite);
}

void EpochMeans::add(const StepOutput& output, std::int64_t rows, bool only_finite) {
  if (output.loss.defined()) add("loss", output.loss, rows, only_finite);
  for (const auto& [name, mean] : output.scalars) add(name, mean, rows, only_finite);
}

MetricValues EpochMeans::values(std::string_view prefix) const {
  MetricValues values;
  for (const auto& [name, mean] : means_) {
    if (name == "loss") values.set(std::string(prefix) + name, mean.value());
  }
  for (const auto& [name, mean] : means_) values.set(std::string(prefix) + name, mean.value());
  return values;
}

}  // namespace torch_accelerated
