// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "torch_accelerated/schedulers/scheduler.h"

namespace torch_accelerated {

/// A schedule that is a pure function of the update's index: a SchedulerFactory whose curve can
/// also be had alone, to be plotted, tested or chained.
class Schedule {
 public:
  using MakeCurve = std::function<Curve(const RunConfig&)>;

  /// @param make  throws ArgumentError for a run that the schedule doesn't fit. Its curve is asked
  ///              for the updates of the run; in a run of unknown length, for any.
  Schedule(std::string name, MakeCurve make) : name_(std::move(name)), make_(std::move(make)) {}

  std::unique_ptr<Scheduler> operator()(torch::optim::Optimizer& optimizer,
                                        const RunConfig& config) const {
    constexpr auto kAny = std::numeric_limits<std::int64_t>::max();
    return std::make_unique<CurveScheduler>(optimizer, name_, make_(config),
                                            config.total_updates.value_or(kAny));
  }

  /// The curve in a run of that length.
  Curve curve(const RunConfig& config) const { return make_(config); }

  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
  MakeCurve make_;
};

}  // namespace torch_accelerated
