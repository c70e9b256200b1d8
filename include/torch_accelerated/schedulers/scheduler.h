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

  /// The metric that end_epoch looks up, which the run must have; empty for none.
  virtual std::string watched_metric() const { return {}; }

  /// What it is called in the run's table, such as "cosine".
  virtual std::string name() const = 0;

  /// What decides the rates that it sets, in words: the same on all ranks, which is looked at
  /// before the first update.
  virtual std::string settings() const { return {}; }
};

/// Makes the scheduler of one optimizer once the run's lengths are known.
using SchedulerFactory =
    std::function<std::unique_ptr<Scheduler>(torch::optim::Optimizer&, const RunConfig&)>;

/// The learning rate of update `update` (from 0) for a group that began with `base_rate`.
using RateCurve = std::function<double(std::int64_t update, double base_rate)>;

/// The momentum of update `update` (from 0) for a group that began with `base_momentum`.
using MomentumCurve = std::function<double(std::int64_t update, double base_momentum)>;

/// What a schedule sets, as pure functions of the update's index.
struct Curve {
  RateCurve rate;
  MomentumCurve momentum = {};  ///< empty: the momentum stays as it is
  double least_base_rate = 0;   ///< its minimum: a group that begins the run lower is refused
};

/// A scheduler that follows a Curve, each param group from its own rate and momentum at
/// construction; the values of update 0 are set at once. The optimizer outlives it.
///
/// A group that is added later follows the curve from the rate that it was added with. One that
/// begins below `curve.least_base_rate` has its own rate for its minimum, and never rises above it.
///
/// Momentum is that of SGD and RMSprop, and the first beta of Adam and AdamW.
class CurveScheduler : public Scheduler {
 public:
  /// @param updates  of how many updates, from 0 on, `settings` may ask the curve: those of the run
  ///                 where its length is known. A table has no more.
  /// @throws ArgumentError  a group that begins below `curve.least_base_rate`; a curve with
  ///                        momentum for an optimizer of another type.
  CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, Curve curve,
                 std::int64_t updates = 2);
  CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, RateCurve rate,
                 std::int64_t updates = 2);

  void step() override;
  std::string name() const override { return name_; }

  /// What the groups begin with, the first one's rate and momentum at updates 0, 1, 2, 4, 8 and so
  /// on where they change, and a digest of all groups' values at a thousand updates and more.
  std::string settings() const override;

  /// The index of the update that comes next and what each param group began with.
  State state() const override;
  void load_state(const State& state) override;

 private:
  void check_groups() const;
  void note_new_groups();
  double rate_at(std::int64_t update, std::size_t group) const;
  double momentum_at(std::int64_t update, std::size_t group) const;
  void set_values();

  torch::optim::Optimizer* optimizer_;
  std::string name_;
  Curve curve_;
  std::int64_t updates_;
  std::vector<double> base_rates_;    // one a param group
  std::vector<double> base_momenta_;  // the same, where the curve has momentum
  std::int64_t update_ = 0;
};

}  // namespace torch_accelerated
