// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// The lengths of an inverse square root schedule, in updates.
struct InverseSquareRootOptions {
  std::int64_t warmup_updates = 0;  ///< linear, from `warmup_start_rate` to the group's rate
  double warmup_start_rate = 0;
  std::optional<std::int64_t> timescale_updates = {};  ///< nothing: the warm-up's, or 10000
};

/// The learning rate of update `update` (from 0): base sqrt(s / (s + t)) with the timescale s and t
/// counted from the end of the warm-up.
/// @par Source  Vaswani et al. 2017 (arXiv:1706.03762), section 5.3, which has s = the warm-up.
double inverse_square_root_rate(std::int64_t update, double base_rate,
                                const InverseSquareRootOptions& options);

/// An inverse square root decay; it needs no length of the run.
/// @throws ArgumentError  numbers out of range at once; when the run starts, a warm-up that is
///                        longer than a run of known length.
Schedule inverse_square_root(InverseSquareRootOptions options = {});

}  // namespace torch_accelerated
