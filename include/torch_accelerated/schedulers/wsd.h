// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// How a rate falls from 1 to 0 while `t` goes from 0 to 1.
enum class DecayShape {
  kLinear,        ///< 1 - t
  kCosine,        ///< (1 + cos(pi t)) / 2
  kOneMinusSqrt,  ///< 1 - sqrt(t)
};

/// The lengths and ends of a warm-up, stable, decay schedule; lengths are counted in updates.
struct WsdOptions {
  std::int64_t warmup_updates = 0;  ///< linear, from `warmup_start_rate` to the group's rate
  double warmup_start_rate = 0;
  std::optional<std::int64_t> decay_updates = {};  ///< nothing: a tenth of the run, rounded up
  DecayShape decay = DecayShape::kOneMinusSqrt;
  double min_rate = 0;                             ///< reached at `total_updates` and kept
  std::optional<double> min_ratio = {};            ///< `min_rate` as a part of the group's rate
  std::optional<std::int64_t> total_updates = {};  ///< nothing: the run's
};

/// The learning rate of update `update` (from 0): a warm-up, the base rate, and in the last
/// `decay_updates` min + (base - min) decay(t), with t from 0 to 1. With no updates to decay in,
/// the base rate stays.
/// @throws ArgumentError  `total_updates` isn't given.
/// @par Source  Hu et al. 2024 (arXiv:2404.06395), section 4; the shapes are compared by Hägele et
///              al. 2024 (arXiv:2405.18392), section 3.
double wsd_rate(std::int64_t update, double base_rate, const WsdOptions& options);

/// How many updates come before the decay.
/// @throws ArgumentError  `total_updates` isn't given.
std::int64_t wsd_decay_begin(const WsdOptions& options);

/// Warm-up, stable and decay over the whole run.
/// @throws ArgumentError  numbers out of range at once; when the run starts, a warm-up and a decay
///                        that are longer than the run, a minimum above a group's rate, or a run of
///                        unknown length.
Schedule wsd(WsdOptions options = {});

}  // namespace torch_accelerated
