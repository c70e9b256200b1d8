// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// The lengths and ends of a polynomial schedule; lengths are counted in updates.
struct PolynomialOptions {
  double power = 1;                 ///< above 1 falls fast at first
  std::int64_t warmup_updates = 0;  ///< linear, from `warmup_start_rate` to the group's rate
  double warmup_start_rate = 0;
  double min_rate = 0;                             ///< reached at `total_updates` and kept
  std::optional<double> min_ratio = {};            ///< `min_rate` as a part of the group's rate
  std::optional<std::int64_t> total_updates = {};  ///< nothing: the run's
};

/// The learning rate of update `update` (from 0): min + (base - min) (1 - t / T)^power with t
/// counted from the end of the warm-up and T the updates after it.
/// @throws ArgumentError  `total_updates` isn't given.
double polynomial_rate(std::int64_t update, double base_rate, const PolynomialOptions& options);

/// A polynomial decay over the whole run.
/// @throws ArgumentError  numbers out of range at once; when the run starts, a warm-up that leaves
///                        no update for the decay, a minimum above a group's rate, or a run of
///                        unknown length.
Schedule polynomial(PolynomialOptions options = {});

/// The lengths and ends of a linear schedule; lengths are counted in updates.
struct LinearOptions {
  std::int64_t warmup_updates = 0;  ///< from `warmup_start_rate` to the group's rate
  double warmup_start_rate = 0;
  double min_rate = 0;                             ///< reached at `total_updates` and kept
  std::optional<double> min_ratio = {};            ///< `min_rate` as a part of the group's rate
  std::optional<std::int64_t> total_updates = {};  ///< nothing: the run's
};

/// `polynomial_rate` with power 1.
double linear_rate(std::int64_t update, double base_rate, const LinearOptions& options);

/// A linear warm-up and a linear decay over the whole run; throws as `polynomial`.
Schedule linear(LinearOptions options = {});

}  // namespace torch_accelerated
