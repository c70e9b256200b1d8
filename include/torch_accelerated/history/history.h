// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "torch_accelerated/history/metric_values.h"

namespace torch_accelerated {

/// What an epoch gave, or an evaluation in the middle of one.
struct HistoryRow {
  std::int64_t epoch = 0;    ///< from 1, counted over all runs since the last reset
  std::int64_t updates = 0;  ///< of the run, when the row was made
  MetricValues metrics;
  bool is_intermediate = false;  ///< whether the epoch was still going on
};

/// The one stream of a Trainer's rows, in order, which loggers read. A look-up changes nothing.
class History {
 public:
  virtual ~History() = default;

  virtual const std::vector<HistoryRow>& rows() const noexcept = 0;
  virtual void append(HistoryRow row) = 0;
  virtual void reset() = 0;

  bool empty() const noexcept { return rows().empty(); }

  /// The newest value of `name`.
  /// @throws ArgumentError  when no row has it; the message suggests the nearest name there is.
  double latest(std::string_view name) const;

  std::optional<double> find_latest(std::string_view name) const noexcept;

  /// The values of `name` in order, rows without it left out.
  std::vector<double> values(std::string_view name) const;
};

/// Rows that live as long as the process.
class InMemoryHistory : public History {
 public:
  const std::vector<HistoryRow>& rows() const noexcept override { return rows_; }
  void append(HistoryRow row) override { rows_.push_back(std::move(row)); }
  void reset() override { rows_.clear(); }

 private:
  std::vector<HistoryRow> rows_;
};

}  // namespace torch_accelerated
