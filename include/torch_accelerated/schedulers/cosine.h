// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// The lengths and ends of a cosine schedule; lengths are counted in updates.
struct CosineOptions {
  std::int64_t warmup_updates = 0;  ///< linear, from `warmup_start_rate` to the group's rate
  double warmup_start_rate = 0;
  double min_rate = 0;                   ///< reached at the end of the cosine and kept
  std::optional<double> min_ratio = {};  ///< `min_rate` as a part of the group's rate instead
  double k_decay = 1;                    ///< above 1 stays high for longer, below 1 falls sooner
  std::int64_t cooldown_updates = 0;     ///< at the minimum, at the end of the run
  std::optional<std::int64_t> total_updates = {};  ///< nothing: the run's
};

/// The learning rate of update `update` (from 0) of `options.total_updates`:
/// min + (base - min) (1 + cos(pi t^k / T^k)) / 2 with t counted from the end of the warm-up and T
/// the updates between warm-up and cool-down; the minimum from the end of T on.
/// @throws ArgumentError  `total_updates` isn't given.
/// @par Source  Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5, without restarts;
/// k-decay
///              by Zhang and Li 2020 (arXiv:2004.05909).
double cosine_rate(std::int64_t update, double base_rate, const CosineOptions& options);

/// A cosine over the whole run.
/// @throws ArgumentError  numbers out of range at once; when the run starts, lengths that leave no
///                        update for the cosine, a minimum above a group's rate, or a run of
///                        unknown length.
Schedule cosine(CosineOptions options = {});

}  // namespace torch_accelerated
