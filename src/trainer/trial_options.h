// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/trainer/options.h"

namespace torch_accelerated {

/// `options` with the limits of a trial: fast_dev_run, overfit_batches, and the environment's
/// TORCH_ACCELERATED_LIMIT_BATCHES where no limit is given.
/// @throws ArgumentError  a variable that is no number >= 1, or trials that exclude each other.
TrainOptions with_trial_limits(TrainOptions options);

/// `asked`, or else the environment's limit.
std::optional<std::int64_t> limit_of_evaluation(std::optional<std::int64_t> asked);

}  // namespace torch_accelerated
