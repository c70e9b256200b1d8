// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// Equal steps down; lengths are counted in updates.
struct StepDecayOptions {
  std::int64_t every_updates = 0;  ///< required
  double factor = 0.1;             ///< of the rate at each step, in (0, 1]
};

/// The learning rate of update `update` (from 0): base factor^floor(update / every_updates).
/// @throws ArgumentError  `every_updates` isn't >= 1.
double step_decay_rate(std::int64_t update, double base_rate, const StepDecayOptions& options);

/// A step down every so many updates.
/// @throws ArgumentError  numbers out of range, at once.
Schedule step_decay(StepDecayOptions options);

/// Steps down at given updates.
struct MultiStepDecayOptions {
  std::vector<std::int64_t> milestones;  ///< updates from which on the rate is lower, ascending
  double factor = 0.1;                   ///< of the rate at each milestone, in (0, 1]
};

/// The learning rate of update `update` (from 0): base factor^(milestones <= update).
double multi_step_decay_rate(std::int64_t update, double base_rate,
                             const MultiStepDecayOptions& options);

/// A step down at each milestone.
/// @throws ArgumentError  numbers out of range or milestones out of order, at once.
Schedule multi_step_decay(MultiStepDecayOptions options);

}  // namespace torch_accelerated
