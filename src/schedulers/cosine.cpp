// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/cosine.h"

#include <cmath>
#include <numbers>

#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

void check(const CosineOptions& options) {
  OptionCheck check("cosine");
  check_warmup(check, options.warmup_updates, options.warmup_start_rate);
  check_minimum(check, options.min_rate, options.min_ratio);
  check_total(check, options.total_updates);
  check
      .require(options.cooldown_updates >= 0,
               concat("cooldown_updates must be >= 0, got ", options.cooldown_updates))
      .require(std::isfinite(options.k_decay) && options.k_decay > 0,
               concat("k_decay must be finite and > 0, got ", options.k_decay,
                      "; 1 is the plain cosine"))
      .throw_if_any();
}

CosineOptions resolved(CosineOptions options, const RunConfig& config) {
  const auto total = total_of("cosine", options.total_updates, config, options.warmup_updates);
  options.total_updates = total;
  // Differences, as a sum of two lengths could overflow.
  if (options.warmup_updates >= total ||
      options.cooldown_updates >= total - options.warmup_updates) {
    throw ArgumentError(concat("cosine: warm-up of ", options.warmup_updates, " and cool-down of ",
                               options.cooldown_updates, " updates leave nothing of a run of ",
                               total, "; shorten them"));
  }
  return options;
}

}  // namespace

double cosine_rate(std::int64_t update, double base_rate, const CosineOptions& options) {
  const std::int64_t begin = options.warmup_updates;
  const std::int64_t end =
      given_total("cosine_rate", options.total_updates) - options.cooldown_updates;
  if (update < begin) {
    return warmup_rate(update, begin, options.warmup_start_rate, base_rate);
  }
  const double lowest = minimum(base_rate, options.min_rate, options.min_ratio);
  if (update >= end) return lowest;
  double done = static_cast<double>(update - begin) / static_cast<double>(end - begin);
  if (options.k_decay != 1) done = std::pow(done, options.k_decay);
  const double height = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return lowest + (base_rate - lowest) * height;
}

Schedule cosine(CosineOptions options) {
  check(options);
  return {"cosine", [options](const RunConfig& config) {
            const auto whole = resolved(options, config);
            return Curve{
                .rate = [whole](std::int64_t update,
                                double base_rate) { return cosine_rate(update, base_rate, whole); },
                .least_base_rate = whole.min_rate};
          }};
}

}  // namespace torch_accelerated
