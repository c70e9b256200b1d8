// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/wsd.h"

#include <cmath>
#include <numbers>

#include "base/arithmetic.h"
#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

void check(const WsdOptions& options) {
  OptionCheck check("wsd");
  check_warmup(check, options.warmup_updates, options.warmup_start_rate);
  check_minimum(check, options.min_rate, options.min_ratio);
  check_total(check, options.total_updates);
  check
      .require(!options.decay_updates || *options.decay_updates >= 0,
               concat("decay_updates must be >= 0, got ", options.decay_updates.value_or(0),
                      "; 0 is without a decay"))
      .throw_if_any();
}

std::int64_t decay_length(const WsdOptions& options, std::int64_t total) {
  return options.decay_updates.value_or(ceil_divide(total, 10));
}

WsdOptions resolved(WsdOptions options, const RunConfig& config) {
  const auto total = total_of("wsd", options.total_updates, config, options.warmup_updates);
  options.total_updates = total;
  options.decay_updates = decay_length(options, total);
  if (options.warmup_updates > total || *options.decay_updates > total - options.warmup_updates) {
    throw ArgumentError(concat("wsd: warm-up of ", options.warmup_updates, " and decay of ",
                               *options.decay_updates, " updates are longer than a run of ", total,
                               "; shorten them"));
  }
  return options;
}

double height(DecayShape shape, double done) {
  switch (shape) {
    case DecayShape::kLinear:
      return 1 - done;
    case DecayShape::kCosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * done));
    case DecayShape::kOneMinusSqrt:
      break;
  }
  return 1 - std::sqrt(done);
}

}  // namespace

double wsd_rate(std::int64_t update, double base_rate, const WsdOptions& options) {
  const std::int64_t end = given_total("wsd_rate", options.total_updates);
  const std::int64_t decay = decay_length(options, end);
  if (update < options.warmup_updates) {
    return warmup_rate(update, options.warmup_updates, options.warmup_start_rate, base_rate);
  }
  if (decay == 0 || update < end - decay) return base_rate;
  const double lowest = minimum(base_rate, options.min_rate, options.min_ratio);
  if (update >= end) return lowest;
  const double done = static_cast<double>(update - (end - decay)) / static_cast<double>(decay);
  return lowest + (base_rate - lowest) * height(options.decay, done);
}

std::int64_t wsd_decay_begin(const WsdOptions& options) {
  const auto total = given_total("wsd_decay_begin", options.total_updates);
  return total - decay_length(options, total);
}

Schedule wsd(WsdOptions options) {
  check(options);
  return {"wsd", [options](const RunConfig& config) {
            const auto whole = resolved(options, config);
            return Curve{
                .rate = [whole](std::int64_t update,
                                double base_rate) { return wsd_rate(update, base_rate, whole); },
                .least_base_rate = whole.min_rate};
          }};
}

}  // namespace torch_accelerated
