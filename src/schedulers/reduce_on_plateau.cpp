// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/reduce_on_plateau.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/text.h"
#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

void check(const PlateauOptions& options) {
  OptionCheck("reduce_on_plateau")
      .require(!options.metric.empty(), "metric is empty; give a name of the history's")
      .require(options.factor > 0 && options.factor < 1,
               concat("factor must be in (0, 1), got ", options.factor))
      .require(options.patience >= 0, concat("patience must be >= 0, got ", options.patience,
                                             "; 0 reduces at the first epoch without improvement"))
      .require(is_rate(options.threshold),
               concat("threshold must be finite and >= 0, got ", options.threshold))
      .require(options.cooldown_epochs >= 0,
               concat("cooldown_epochs must be >= 0, got ", options.cooldown_epochs))
      .require(is_rate(options.min_rate),
               concat("min_rate must be finite and >= 0, got ", options.min_rate))
      .require(is_rate(options.min_change),
               concat("min_change must be finite and >= 0, got ", options.min_change))
      .throw_if_any();
}

double worst(Better direction) {
  const double infinity = std::numeric_limits<double>::infinity();
  return direction == Better::kLower ? infinity : -infinity;
}

std::vector<double> rates_of(const torch::optim::Optimizer& optimizer) {
  std::vector<double> rates;
  rates.reserve(optimizer.param_groups().size());
  for (const auto& group : optimizer.param_groups()) rates.push_back(group.options().get_lr());
  return rates;
}

}  // namespace

ReduceOnPlateau::ReduceOnPlateau(torch::optim::Optimizer& optimizer, PlateauOptions options)
    : optimizer_(&optimizer), options_(std::move(options)), best_(worst(options_.direction)) {
  check(options_);
  const auto rates = rates_of(optimizer);
  for (std::size_t i = 0; i < rates.size(); ++i) {
    if (rates[i] >= options_.min_rate) continue;
    throw ArgumentError(concat("reduce_on_plateau: min_rate ", options_.min_rate,
                               " is above the rate ", rates[i], " of param group ", i,
                               "; lower it"));
  }
}

std::string ReduceOnPlateau::settings() const {
  const bool lower = options_.direction == Better::kLower;
  const bool relative = options_.threshold_mode == PlateauThreshold::kRelative;
  auto text = concat("metric ", options_.metric, ", better ", lower ? "lower" : "higher",
                     ", factor ", exact_text(options_.factor), ", patience ", options_.patience,
                     ", threshold ", exact_text(options_.threshold),
                     relative ? " relative" : " absolute", ", cooldown_epochs ",
                     options_.cooldown_epochs, ", min_rate ", exact_text(options_.min_rate),
                     ", min_change ", exact_text(options_.min_change), ", rates");
  for (const double rate : rates_of(*optimizer_)) text += " " + exact_text(rate);
  return text;
}

void ReduceOnPlateau::end_epoch(
    const std::function<std::optional<double>(std::string_view)>& metric) {
  const auto value = metric(options_.metric);
  if (!value) {
    throw ArgumentError(concat("reduce_on_plateau: the history has no '", options_.metric,
                               "'; give the name of a metric that each epoch has"));
  }
  if (improves(*value)) {
    best_ = *value;
    bad_epochs_ = 0;
  } else {
    ++bad_epochs_;
  }
  if (cooldown_left_ > 0) {
    --cooldown_left_;
    bad_epochs_ = 0;
  }
  if (bad_epochs_ <= options_.patience) return;
  reduce();
  cooldown_left_ = options_.cooldown_epochs;
  bad_epochs_ = 0;
}

bool ReduceOnPlateau::improves(double value) const {
  if (!std::isfinite(value)) return false;
  if (!std::isfinite(best_)) return true;
  // The size of the best value, as a part of a negative one would let worse values pass as better.
  const bool is_relative = options_.threshold_mode == PlateauThreshold::kRelative;
  const double step = options_.threshold * (is_relative ? std::abs(best_) : 1);
  const double least = options_.direction == Better::kLower ? best_ - step : best_ + step;
  return is_better(options_.direction, value, least);
}

void ReduceOnPlateau::reduce() {
  for (auto& group : optimizer_->param_groups()) {
    auto& options = group.options();
    const double rate = options.get_lr();
    const double lower = std::max(rate * options_.factor, options_.min_rate);
    if (rate - lower > options_.min_change) options.set_lr(lower);
  }
}

State ReduceOnPlateau::state() const {
  return State()
      .set("best", best_)
      .set("bad_epochs", bad_epochs_)
      .set("cooldown_left", cooldown_left_)
      .set("rates", rates_of(*optimizer_));
}

void ReduceOnPlateau::load_state(const State& state) {
  const auto best = state.get<double>("best");
  const auto bad_epochs = state.get<std::int64_t>("bad_epochs");
  const auto cooldown_left = state.get<std::int64_t>("cooldown_left");
  const auto& rates = state.get<std::vector<double>>("rates");
  auto& groups = optimizer_->param_groups();
  best_ = best;
  bad_epochs_ = bad_epochs;
  cooldown_left_ = cooldown_left;
  for (std::size_t i = 0; i < std::min(rates.size(), groups.size()); ++i) {
    groups[i].options().set_lr(rates[i]);
  }
}

SchedulerFactory reduce_on_plateau(PlateauOptions options) {
  check(options);
  return [options = std::move(options)](torch::optim::Optimizer& optimizer, const RunConfig&) {
    return std::make_unique<ReduceOnPlateau>(optimizer, options);
  };
}

}  // namespace torch_accelerated
