// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/metric_watch.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

std::optional<double> newest_of_epoch(const std::vector<HistoryRow>& rows,
                                      const std::string& name) {
  for (auto row = rows.rbegin(); row != rows.rend() && row->epoch == rows.back().epoch; ++row) {
    if (const auto value = row->metrics.find(name)) return value;
  }
  return std::nullopt;
}

bool is_announced(const Trainer& trainer, const std::string& name) {
  const auto names = trainer.metric_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool was_cut_short(const Trainer& trainer, const HistoryRow& row) {
  return trainer.accelerator().is_triggered(Trigger::kStop) ||
         (trainer.run_config().eval_rows && !row.metrics.find("eval_loss"));
}

}  // namespace

MetricWatch::MetricWatch(MetricWatchOptions options) : options_(std::move(options)) {}

void MetricWatch::check(OptionCheck& check) const {
  check.require(!options_.metric.empty(),
                "metric is empty; give the name of a metric, such as \"eval_loss\"");
  const auto delta = [&](const char* name, double value) {
    check.require(std::isfinite(value) && value >= 0,
                  concat(name, " must be finite and >= 0, got ", value));
  };
  delta("min_delta", options_.min_delta);
  delta("min_relative_delta", options_.min_relative_delta);
}

void MetricWatch::require(const Trainer& trainer, const std::string& watcher) const {
  trainer.accelerator().together(watcher,
                                 [&] { trainer.require_metric(watcher, options_.metric); });
}

std::optional<EpochMetric> MetricWatch::read(const Trainer& trainer, const std::string& watcher) {
  const auto& rows = trainer.history().rows();
  if (rows.empty()) return std::nullopt;
  const auto& row = rows.back();
  if (const auto value = newest_of_epoch(rows, options_.metric)) {
    seen_ = true;
    return EpochMetric{*value, row.epoch};
  }
  if (seen_ || was_cut_short(trainer, row) || is_announced(trainer, options_.metric)) {
    return std::nullopt;
  }
  trainer.accelerator().together(watcher, [&] {
    try {
      row.metrics[options_.metric];
    } catch (const ArgumentError& error) {
      throw ArgumentError(concat(watcher, ": ", error.what()));
    }
  });
  return std::nullopt;
}

bool MetricWatch::improves(const EpochMetric& found) {
  if (!std::isfinite(found.value)) return false;
  if (best_) {
    const double gain = options_.direction == Better::kLower ? best_->value - found.value
                                                             : found.value - best_->value;
    const double margin =
        std::max(options_.min_delta, options_.min_relative_delta * std::abs(best_->value));
    if (!(gain > margin)) return false;
  }
  best_ = found;
  return true;
}

void MetricWatch::reset() noexcept {
  best_.reset();
  seen_ = false;
}

State MetricWatch::state() const {
  State state;
  state.set("metric", options_.metric);
  state.set("direction", setting(options_.direction));
  state.set("seen", seen_);
  if (best_) {
    state.set("best", best_->value);
    state.set("best_epoch", best_->epoch);
  }
  return state;
}

void MetricWatch::load_state(const State& state) {
  const auto& metric = state.get<std::string>("metric");
  if (metric != options_.metric) {
    throw StateError(concat("the state is of metric '", metric, "', expected '", options_.metric,
                            "'; watch the same metric as before"));
  }
  const auto direction = setting(options_.direction);
  const bool is_older = !state.contains("direction");
  if (!is_older && state.get<std::string>("direction") != direction) {
    throw StateError(concat("the state is of metric '", metric, "' with direction ",
                            state.get<std::string>("direction"), ", expected ", direction,
                            "; watch it in the same direction as before"));
  }
  const bool seen = state.get<bool>("seen");
  std::optional<EpochMetric> best;
  if (state.contains("best")) {
    best = EpochMetric{state.get<double>("best"), state.get<std::int64_t>("best_epoch")};
  }
  seen_ = seen;
  best_ = best;
}

}  // namespace torch_accelerated
