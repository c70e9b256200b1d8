// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/scheduler.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <bit>

#include "base/text.h"
#include "schedulers/momentum.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

namespace torch_accelerated {
namespace {

// Saved values take the place of the first of `values`: groups that were added since keep theirs.
std::vector<double> replaced(const std::vector<double>& values, std::vector<double> saved) {
  for (std::size_t i = saved.size(); i < values.size(); ++i) saved.push_back(values[i]);
  return saved;
}

// Updates below `end` to compare two curves at: all at first, later a thousandth of them apart, so
// that a curve of any length costs milliseconds.
std::vector<std::int64_t> compared_updates(std::int64_t end) {
  constexpr std::int64_t kApart = 1024;
  constexpr std::int64_t kEnd = (std::int64_t{1} << 40) + 1;
  std::vector<std::int64_t> updates;
  std::int64_t step = 1;
  for (std::int64_t update = 0; update < std::min(end, kEnd); update += step) {
    updates.push_back(update);
    if (update == 2 * kApart * step) step *= 2;
  }
  return updates;
}

bool is_power_of_two(std::int64_t update) {
  return update > 0 && std::has_single_bit(static_cast<std::uint64_t>(update));
}

}  // namespace

CurveScheduler::CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, Curve curve,
                               std::int64_t updates)
    : optimizer_(&optimizer), name_(std::move(name)), curve_(std::move(curve)), updates_(updates) {
  if (!curve_.rate) throw ArgumentError(concat(name_, ": the curve has no rate; give one"));
  check_groups();
  set_values();
}

CurveScheduler::CurveScheduler(torch::optim::Optimizer& optimizer, std::string name, RateCurve rate,
                               std::int64_t updates)
    : CurveScheduler(optimizer, std::move(name), Curve{.rate = std::move(rate)}, updates) {}

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

// The curve in a few legible points, and a digest of as many as tell one curve from another.
std::string CurveScheduler::settings() const {
  std::string text = "groups from";
  for (const double rate : base_rates_) text += " " + exact_text(rate);
  text += base_rates_.size() > 1 ? "; the first:" : ";";
  std::string before;
  Sha256 hash;
  for (const auto update : compared_updates(updates_)) {
    for (std::size_t i = 0; i < base_rates_.size(); ++i) {
      const std::array<double, 2> values{rate_at(update, i), momentum_at(update, i)};
      hash.update(values.data(), sizeof values);
      if (i > 0 || (update > 0 && !is_power_of_two(update))) continue;
      auto point = exact_text(values[0]);
      if (curve_.momentum) point += "/" + exact_text(values[1]);
      if (point != before) text += concat(" ", point, " at ", update, ",");
      before = std::move(point);
    }
  }
  return text + " digest " + hash.hex_digest().substr(0, 16);
}

void CurveScheduler::check_groups() const {
  const auto& groups = optimizer_->param_groups();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const double rate = groups[i].options().get_lr();
    if (rate < curve_.least_base_rate) {
      throw ArgumentError(concat(name_, ": the minimum ", curve_.least_base_rate,
                                 " is above the rate ", rate, " of param group ", i,
                                 "; lower min_rate, or set min_ratio instead"));
    }
  }
}

// A group added during the run begins with the rate and the momentum that it was added with.
void CurveScheduler::note_new_groups() {
  const auto& groups = optimizer_->param_groups();
  for (auto i = base_rates_.size(); i < groups.size(); ++i) {
    const auto& options = groups[i].options();
    const double rate = options.get_lr();
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

// A group that was added below the curve's minimum has its own rate for one: it never rises to it.
double CurveScheduler::rate_at(std::int64_t update, std::size_t group) const {
  const double base = base_rates_[group];
  const double rate = curve_.rate(update, base);
  return base < curve_.least_base_rate ? std::min(rate, base) : rate;
}

double CurveScheduler::momentum_at(std::int64_t update, std::size_t group) const {
  return curve_.momentum ? curve_.momentum(update, base_momenta_[group]) : 0;
}

void CurveScheduler::set_values() {
  note_new_groups();
  auto& groups = optimizer_->param_groups();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    auto& options = groups[i].options();
    options.set_lr(rate_at(update_, i));
    if (curve_.momentum) set_momentum(options, momentum_at(update_, i));
  }
}

}  // namespace torch_accelerated
