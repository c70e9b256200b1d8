// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace torch_accelerated {

/// Numbers by name, in the order in which they were set: the metrics of an epoch.
class MetricValues {
 public:
  using Entry = std::pair<std::string, double>;

  MetricValues() = default;
  MetricValues(std::initializer_list<Entry> entries) : entries_(entries) {}

  /// The number called `name`.
  /// @throws ArgumentError  when there is none; the message suggests the nearest name that there
  /// is.
  double operator[](std::string_view name) const;

  std::optional<double> find(std::string_view name) const noexcept;

  /// Adds `value` under `name`, or puts it in the place of what stood there.
  void set(std::string_view name, double value);

  /// Sets all of `others`.
  void merge(const MetricValues& others);

  bool empty() const noexcept { return entries_.empty(); }
  std::size_t size() const noexcept { return entries_.size(); }
  auto begin() const noexcept { return entries_.begin(); }
  auto end() const noexcept { return entries_.end(); }

 private:
  std::vector<Entry> entries_;
};

}  // namespace torch_accelerated
