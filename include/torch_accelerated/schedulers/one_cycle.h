// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// How a value goes from one end of a phase to the other.
enum class Annealing { kCosine, kLinear };

/// One cycle of learning rate and momentum; a group's own rate is the peak.
struct OneCycleOptions {
  double warmup_fraction = 0.3;  ///< of the run, in which the rate rises
  double start_divisor = 25;     ///< the first rate is the peak divided by this
  double final_divisor = 1e4;    ///< the last rate is the first divided by this
  Annealing annealing = Annealing::kCosine;
  bool three_phases = false;   ///< falls to the first rate as long as it rose, then to the last
  bool cycle_momentum = true;  ///< falls to `min_momentum` at the peak and rises again
  double min_momentum = 0.85;
  double max_momentum = 0.95;
  std::optional<std::int64_t> total_updates = {};  ///< nothing: the run's
};

/// The learning rate of update `update` (from 0) for a group with peak `base_rate`; the last value
/// is that of the last update and stays.
/// @throws ArgumentError  `total_updates` isn't given.
/// @par Source  Smith and Topin 2019 (arXiv:1708.07120), section 3, with the phases of PyTorch's
///              OneCycleLR.
double one_cycle_rate(std::int64_t update, double base_rate, const OneCycleOptions& options);

/// The momentum of update `update` (from 0).
/// @throws ArgumentError  `total_updates` isn't given.
double one_cycle_momentum(std::int64_t update, const OneCycleOptions& options);

/// One cycle over the whole run.
/// @throws ArgumentError  numbers out of range at once; when the run starts, a run of unknown
///                        length, a `total_updates` of which the run doesn't even see the rise, or
///                        an optimizer whose momentum can't be set.
Schedule one_cycle(OneCycleOptions options = {});

}  // namespace torch_accelerated
