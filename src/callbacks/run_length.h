// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/arithmetic.h"
#include "torch_accelerated/core/run_config.h"

namespace torch_accelerated {

/// How many epochs a run will have: fewer than were asked for where `max_updates` ends it before.
inline std::int64_t epochs_of(const RunConfig& config) {
  const auto updates = config.updates_per_epoch.value_or(0);
  if (!config.total_updates || updates < 1) return config.num_epochs;
  return std::min(config.num_epochs, ceil_divide(*config.total_updates, updates));
}

}  // namespace torch_accelerated
