// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "torch_accelerated/core/better.h"
#include "torch_accelerated/schedulers/scheduler.h"

namespace torch_accelerated {

/// What the least improvement is measured by.
enum class PlateauThreshold {
  kRelative,  ///< a part of the best value
  kAbsolute,  ///< the metric's own unit
};

/// When a plateau is one, and what follows; lengths are counted in epochs.
struct PlateauOptions {
  std::string metric = "eval_loss";  ///< a name of the history's
  Better direction = Better::kLower;
  double factor = 0.1;         ///< of the rates at each reduction, in (0, 1)
  std::int64_t patience = 10;  ///< epochs without improvement that are let pass
  double threshold = 1e-4;     ///< an improvement is larger than this
  PlateauThreshold threshold_mode = PlateauThreshold::kRelative;
  std::int64_t cooldown_epochs = 0;  ///< after a reduction, in which nothing is counted
  double min_rate = 0;
  double min_change = 1e-8;  ///< a rate that would change by no more stays
};

/// Lowers the rates when a metric has stopped improving; looks at it at each epoch's end.
///
/// The optimizer outlives it. A value that is not finite is no improvement.
class ReduceOnPlateau : public Scheduler {
 public:
  /// @throws ArgumentError  options out of range.
  ReduceOnPlateau(torch::optim::Optimizer& optimizer, PlateauOptions options);

  void step() override {}

  /// @throws ArgumentError  the history has no such metric.
  void end_epoch(const std::function<std::optional<double>(std::string_view)>& metric) override;
  std::string watched_metric() const override { return options_.metric; }
  std::string name() const override { return "reduce_on_plateau"; }

  /// The options and the rates as they are now.
  std::string settings() const override;

  /// The best value, the epochs counted so far and the rates.
  State state() const override;
  void load_state(const State& state) override;

 private:
  bool improves(double value) const;
  void reduce();

  torch::optim::Optimizer* optimizer_;
  PlateauOptions options_;
  double best_;
  std::int64_t bad_epochs_ = 0;
  std::int64_t cooldown_left_ = 0;
};

/// Lowers the rates when a metric has stopped improving.
/// @throws ArgumentError  options out of range at once; when the run starts, a metric that it won't
///                        have.
SchedulerFactory reduce_on_plateau(PlateauOptions options = {});

}  // namespace torch_accelerated
