// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "torch_accelerated/core/better.h"
#include "torch_accelerated/core/stateful.h"

namespace torch_accelerated {

class OptionCheck;
class Trainer;

/// What a metric was at the end of an epoch.
struct EpochMetric {
  double value = 0;
  std::int64_t epoch = 0;  ///< as HistoryRow::epoch
};

/// Which metric is watched, and what is an improvement of it.
struct MetricWatchOptions {
  std::string metric = "eval_loss";
  Better direction = Better::kLower;
  double min_delta = 0;           ///< by how much more it has to be better than the best
  double min_relative_delta = 0;  ///< the same, as a share of the best's absolute value
};

/// Keeps the best value of a metric, for callbacks that decide by it.
class MetricWatch : public Stateful {
 public:
  /// Takes options as they are; `check` tells what is wrong with them.
  explicit MetricWatch(MetricWatchOptions options = {});

  void check(OptionCheck& check) const;

  const MetricWatchOptions& options() const noexcept { return options_; }

  /// For on_training_run_start. Collective.
  /// @param watcher  starts the messages of this function and the next.
  /// @throws ArgumentError  on all ranks: the run will have no such metric; suggests the nearest.
  void require(const Trainer& trainer, const std::string& watcher) const;

  /// For on_training_run_epoch_end: the newest value in the rows of the epoch that has ended, those
  /// of intermediate evaluations included. Nothing where a stop cut the evaluation short, or a
  /// metric that was announced isn't there yet. Collective.
  /// @throws ArgumentError  on all ranks: a name that couldn't be known before the run hasn't come.
  std::optional<EpochMetric> read(const Trainer& trainer, const std::string& watcher);

  /// Whether `found` is better than the best by more than both deltas, or the first; it is the best
  /// then. A number that isn't finite never is.
  bool improves(const EpochMetric& found);

  const std::optional<EpochMetric>& best() const noexcept { return best_; }
  void reset() noexcept;

  State state() const override;
  void load_state(const State& state) override;

 private:
  MetricWatchOptions options_;
  std::optional<EpochMetric> best_;
  bool seen_ = false;  // whether any row has had the metric
};

}  // namespace torch_accelerated
