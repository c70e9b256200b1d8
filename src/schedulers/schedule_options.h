// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/run_config.h"

namespace torch_accelerated {

inline bool is_rate(double value) { return std::isfinite(value) && value >= 0; }

inline bool is_fraction(double value) { return value >= 0 && value <= 1; }

inline void check_warmup(OptionCheck& check, std::int64_t updates, double start_rate) {
  check
      .require(updates >= 0,
               concat("warmup_updates must be >= 0, got ", updates, "; 0 is without a warm-up"))
      .require(is_rate(start_rate),
               concat("warmup_start_rate must be finite and >= 0, got ", start_rate));
}

inline void check_minimum(OptionCheck& check, double rate, std::optional<double> ratio) {
  check.require(is_rate(rate), concat("min_rate must be finite and >= 0, got ", rate))
      .require(!ratio || is_fraction(*ratio),
               concat("min_ratio must be between 0 and 1, got ", ratio.value_or(0)))
      .require(!ratio || rate == 0, concat("min_rate ", rate, " and min_ratio ", ratio.value_or(0),
                                           " both set the minimum; leave one of them out"));
}

inline void check_total(OptionCheck& check, std::optional<std::int64_t> updates) {
  check.require(!updates || *updates >= 1,
                concat("total_updates must be >= 1, got ", updates.value_or(1),
                       "; leave it out for the run's length"));
}

/// The minimum of a group that began with `base_rate`.
inline double minimum(double base_rate, double rate, std::optional<double> ratio) {
  return ratio ? *ratio * base_rate : rate;
}

/// Linear from `start_rate` at update 0 to `base_rate` at `updates`.
inline double warmup_rate(std::int64_t update, std::int64_t updates, double start_rate,
                          double base_rate) {
  const double done = static_cast<double>(update) / static_cast<double>(updates);
  return start_rate + (base_rate - start_rate) * done;
}

/// The length that a pure function was given.
inline std::int64_t given_total(std::string_view call, std::optional<std::int64_t> updates) {
  if (updates) return *updates;
  throw ArgumentError(concat(call, ": total_updates isn't given; set it in the options"));
}

/// The length of a schedule: what was asked for, or else the run's.
/// @throws ArgumentError  neither is known, or a warm-up that is longer than the run: of a schedule
///                        that goes on beyond it, nothing else would be seen.
inline std::int64_t total_of(std::string_view call, std::optional<std::int64_t> updates,
                             const RunConfig& config, std::int64_t warmup = 0) {
  if (config.total_updates && warmup > *config.total_updates) {
    throw ArgumentError(concat(call, ": warm-up of ", warmup, " updates is longer than a run of ",
                               *config.total_updates, "; shorten it"));
  }
  if (updates) return *updates;
  if (config.total_updates) return *config.total_updates;
  throw ArgumentError(concat(call,
                             ": the length of the run is not known; set "
                             "TrainOptions::max_updates or the schedule's total_updates"));
}

/// @throws ArgumentError  a warm-up that leaves no update of `total` for what comes after it.
inline void check_warmup_fits(std::string_view call, std::int64_t warmup, std::int64_t total) {
  if (warmup < total) return;
  throw ArgumentError(concat(call, ": warm-up of ", warmup, " updates leaves nothing of a run of ",
                             total, "; shorten it"));
}

}  // namespace torch_accelerated
