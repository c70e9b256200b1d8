// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "torch_accelerated/core/run_config.h"
#include "torch_accelerated/core/stateful.h"
#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// Sets an optimizer's learning rates; stepped once after each update, and not after a skipped one.
class Scheduler : public Stateful {
 public:
  /// Sets the rates for the update that comes next.
  virtual void step() = 0;

  /// An epoch has ended; `metric` gives the newest value of a metric of the history by its name.
  virtual void end_epoch(const std::function<std::optional<double>(std::string_view)>& /*metric*/) {
  }

  /// What it is called in the run's table, such as "cosine".
  virtual std::string name() const = 0;
};

/// Makes the scheduler of one optimizer once the run's lengths are known.
using SchedulerFactory =
    std::function<std::unique_ptr<Scheduler>(torch::optim::Optimizer&, const RunConfig&)>;

/// The learning rate of update `update` (from 0) for a group that began with `base_rate`.
using RateCurve = std::function<double(std::int64_t update, double base_rate)>;

/// A scheduler that follows a pure function of the update's index, each param group from its own
/// rate at construction; the rates of update 0 are set at once. The optimizer outlives it.
class CurveScheduler : public Scheduler {
 public:
  CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, RateCurve curve);

  void step() override;
  std::string name() const override { return name_; }

  State state() const override;
  void load_state(const State& state) override;

 private:
  void set_rates();

  torch::optim::Optimizer* optimizer_;
  std::string name_;
  RateCurve curve_;
  std::vector<double> base_rates_;  // one a param group
  std::int64_t update_ = 0;
};

}  // namespace torch_accelerated
