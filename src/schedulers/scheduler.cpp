// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/scheduler.h"

#include <torch/torch.h>

#include <algorithm>

#include "base/text.h"
#include "schedulers/momentum.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// Saved values take the place of the first of `values`: groups that were added since keep theirs.
std::vector<double> replaced(const std::vector<double>& values, std::vector<double> saved) {
  for (std::size_t i = saved.size(); i < values.size(); ++i) saved.push_back(values[i]);
  return saved;
}

}  // namespace

CurveScheduler::CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, Curve curve)
    : optimizer_(&optimizer), name_(std::move(name)), curve_(std::move(curve)) {
  if (!curve_.rate) throw ArgumentError(concat(name_, ": the curve has no rate; give one"));
  set_values();
}

CurveScheduler::CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, RateCurve rate)
    : CurveScheduler(optimizer, std::move(name), Curve{.rate = std::move(rate)}) {}

void CurveScheduler::step() {
  ++update_;
  set_values();
}

State CurveScheduler::state() const {
  State state;
  state.set("update", update_).set("base_rates", base_rates_);
  if (curve_.momentum) state.set("base_momenta", base_momenta_);
  return state;
}

void CurveScheduler::load_state(const State& state) {
  const auto update = state.get<std::int64_t>("update");
  if (update < 0) throw StateError(concat(name_, ": the state is of update ", update));
  auto rates = replaced(base_rates_, state.get<std::vector<double>>("base_rates"));
  if (curve_.momentum) {
    base_momenta_ = replaced(base_momenta_, state.get<std::vector<double>>("base_momenta"));
  }
  base_rates_ = std::move(rates);
  update_ = update;
  set_values();
}

// A group added during the run begins with the rate and the momentum that it was added with.
void CurveScheduler::note_new_groups() {
  const auto& groups = optimizer_->param_groups();
  for (auto i = base_rates_.size(); i < groups.size(); ++i) {
    const auto& options = groups[i].options();
    const double rate = options.get_lr();
    if (rate < curve_.least_base_rate) {
      throw ArgumentError(concat(name_, ": the minimum ", curve_.least_base_rate,
                                 " is above the rate ", rate, " of param group ", i,
                                 "; lower min_rate, or set min_ratio instead"));
    }
    const auto momentum = momentum_of(options);
    if (curve_.momentum && !momentum) {
      throw ArgumentError(concat(name_, ": param group ", i,
                                 " has no momentum or betas that could be set, as SGD, RMSprop, "
                                 "Adam and AdamW have; use one of them or turn momentum off"));
    }
    base_rates_.push_back(rate);
    if (curve_.momentum) base_momenta_.push_back(*momentum);
  }
}

void CurveScheduler::set_values() {
  note_new_groups();
  auto& groups = optimizer_->param_groups();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    auto& options = groups[i].options();
    options.set_lr(curve_.rate(update_, base_rates_[i]));
    if (curve_.momentum) set_momentum(options, curve_.momentum(update_, base_momenta_[i]));
  }
}

}  // namespace torch_accelerated
