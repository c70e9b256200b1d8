// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "torch_accelerated/history/metric_values.h"

namespace torch_accelerated {

/// What an epoch gave.
struct HistoryRow {
  std::int64_t epoch = 0;    ///< from 1, counted over all runs since the last reset
  std::int64_t updates = 0;  ///< of the run, at the epoch's end
  MetricValues metrics;
};

/// The metrics of each finished epoch, in order. A look-up changes nothing.
class History {
 public:
  const std::vector<HistoryRow>& rows() const noexcept { return rows_; }
  bool empty() const noexcept { return rows_.empty(); }

  /// The newest value of `name`.
  /// @throws ArgumentError  when no row has it; the message lists the newest row's names.
  double latest(std::string_view name) const;

  std::optional<double> find_latest(std::string_view name) const noexcept;

  /// The values of `name` in order, rows without it left out.
  std::vector<double> values(std::string_view name) const;

  void append(HistoryRow row) { rows_.push_back(std::move(row)); }
  void reset() noexcept { rows_.clear(); }

 private:
  std::vector<HistoryRow> rows_;
};

}  // namespace torch_accelerated
