// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/one_cycle.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>

#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

// The ends of a value in one phase; phases end at fractional updates, the last at the last update.
struct Phase {
  double end;
  double from;
  double to;
};

double annealed(Annealing annealing, double from, double to, double done) {
  if (annealing == Annealing::kLinear) return from + (to - from) * done;
  return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * done));
}

double value_at(std::int64_t update, Annealing annealing, std::span<const Phase> phases) {
  double begin = 0;
  for (const auto& phase : phases) {
    // A phase without length is passed over: its end is the next one's beginning.
    if (static_cast<double>(update) <= phase.end && phase.end > begin) {
      const double done = (static_cast<double>(update) - begin) / (phase.end - begin);
      return annealed(annealing, phase.from, phase.to, done);
    }
    begin = phase.end;
  }
  return phases.back().to;
}

double one_cycle(std::int64_t update, const OneCycleOptions& options, std::int64_t total,
                 double first, double peak, double last) {
  const auto length = static_cast<double>(total);
  const double top = options.warmup_fraction * length - 1;
  if (!options.three_phases) {
    const std::array<Phase, 2> phases{{{top, first, peak}, {length - 1, peak, last}}};
    return value_at(update, options.annealing, phases);
  }
  const double down = 2 * options.warmup_fraction * length - 2;
  const std::array<Phase, 3> phases{
      {{top, first, peak}, {down, peak, first}, {length - 1, first, last}}};
  return value_at(update, options.annealing, phases);
}

// In whole updates, the nearest; 0 where the length is the run's, which no part of it exceeds.
std::int64_t warmup_of(const OneCycleOptions& options) {
  const auto total = static_cast<double>(options.total_updates.value_or(0));
  return std::llround(std::min(options.warmup_fraction * total, 0x1p62));
}

void check(const OneCycleOptions& options) {
  const auto is_divisor = [](double value) { return std::isfinite(value) && value >= 1; };
  const auto is_momentum = [](double value) { return value >= 0 && value < 1; };
  const double most = options.three_phases ? 0.5 : 1;
  OptionCheck check("one_cycle");
  check_total(check, options.total_updates);
  check
      .require(
          options.warmup_fraction >= 0 && options.warmup_fraction <= most,
          concat("warmup_fraction must be between 0 and ", most, ", got ", options.warmup_fraction))
      .require(is_divisor(options.start_divisor),
               concat("start_divisor must be finite and >= 1, got ", options.start_divisor))
      .require(is_divisor(options.final_divisor),
               concat("final_divisor must be finite and >= 1, got ", options.final_divisor))
      .require(is_momentum(options.min_momentum),
               concat("min_momentum must be in [0, 1), got ", options.min_momentum))
      .require(is_momentum(options.max_momentum),
               concat("max_momentum must be in [0, 1), got ", options.max_momentum))
      .require(!(options.min_momentum > options.max_momentum),
               concat("min_momentum ", options.min_momentum, " is above max_momentum ",
                      options.max_momentum))
      .throw_if_any();
}

}  // namespace

double one_cycle_rate(std::int64_t update, double base_rate, const OneCycleOptions& options) {
  const auto total = given_total("one_cycle_rate", options.total_updates);
  const double first = base_rate / options.start_divisor;
  return one_cycle(update, options, total, first, base_rate, first / options.final_divisor);
}

double one_cycle_momentum(std::int64_t update, const OneCycleOptions& options) {
  const auto total = given_total("one_cycle_momentum", options.total_updates);
  return one_cycle(update, options, total, options.max_momentum, options.min_momentum,
                   options.max_momentum);
}

Schedule one_cycle(OneCycleOptions options) {
  check(options);
  return {"one_cycle", [options](const RunConfig& config) {
            auto whole = options;
            whole.total_updates =
                total_of("one_cycle", options.total_updates, config, warmup_of(options));
            Curve curve{.rate = [whole](std::int64_t update, double base_rate) {
              return one_cycle_rate(update, base_rate, whole);
            }};
            if (whole.cycle_momentum) {
              curve.momentum = [whole](std::int64_t update, double /*base_momentum*/) {
                return one_cycle_momentum(update, whole);
              };
            }
            return curve;
          }};
}

}  // namespace torch_accelerated
