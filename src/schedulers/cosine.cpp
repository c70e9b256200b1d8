// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/cosine.h"

#include <cmath>
#include <numbers>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

void check(const CosineOptions& options) {
  OptionCheck("cosine")
      .require(options.warmup_updates >= 0,
               concat("warmup_updates must be >= 0, got ", options.warmup_updates))
      .require(options.cooldown_updates >= 0,
               concat("cooldown_updates must be >= 0, got ", options.cooldown_updates))
      .require(options.warmup_start_rate >= 0,
               concat("warmup_start_rate must be >= 0, got ", options.warmup_start_rate))
      .require(options.min_rate >= 0, concat("min_rate must be >= 0, got ", options.min_rate))
      .require(!options.total_updates || *options.total_updates >= 1,
               concat("total_updates must be >= 1, got ", options.total_updates.value_or(1)))
      .throw_if_any();
}

CosineOptions resolved(CosineOptions options, const RunConfig& config) {
  if (!options.total_updates) options.total_updates = config.total_updates;
  if (!options.total_updates) {
    throw ArgumentError(
        "cosine: the length of the run is not known; set TrainOptions::max_updates or "
        "CosineOptions::total_updates");
  }
  if (options.warmup_updates + options.cooldown_updates >= *options.total_updates) {
    throw ArgumentError(concat("cosine: warm-up of ", options.warmup_updates, " and cool-down of ",
                               options.cooldown_updates, " updates leave nothing of a run of ",
                               *options.total_updates, "; shorten them"));
  }
  return options;
}

}  // namespace

double cosine_rate(std::int64_t update, double base_rate, const CosineOptions& options) {
  if (update < options.warmup_updates) {
    const double done = static_cast<double>(update) / static_cast<double>(options.warmup_updates);
    return options.warmup_start_rate + (base_rate - options.warmup_start_rate) * done;
  }
  const std::int64_t begin = options.warmup_updates;
  const std::int64_t end = options.total_updates.value_or(0) - options.cooldown_updates;
  if (update >= end) return options.min_rate;
  const double done = static_cast<double>(update - begin) / static_cast<double>(end - begin);
  const double height = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return options.min_rate + (base_rate - options.min_rate) * height;
}

SchedulerFactory cosine(CosineOptions options) {
  check(options);
  return [options](torch::optim::Optimizer& optimizer, const RunConfig& config) {
    const auto whole = resolved(options, config);
    return std::make_unique<CurveScheduler>(optimizer, "cosine",
                                            [whole](std::int64_t update, double base_rate) {
                                              return cosine_rate(update, base_rate, whole);
                                            });
  };
}

}  // namespace torch_accelerated
