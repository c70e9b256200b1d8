// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "torch_accelerated/schedulers/schedule.h"

namespace torch_accelerated {

/// One schedule of several that follow each other; its length is one of the two, and the last may
/// have neither: it takes what is left of the run.
struct ChainStage {
  Schedule schedule;
  std::optional<std::int64_t> updates = {};
  std::optional<double> fraction = {};  ///< of the run, in (0, 1]
};

/// Schedules one after the other, each from the group's own rate, as if a run of that stage's
/// length began: its update 0 is the stage's first. After the last stage its curve goes on.
///
/// Stages with fractions begin and end at the update nearest to the fractions' sum.
/// @throws ArgumentError  no stages, or lengths out of range, at once; when the run starts, stages
///                        that are longer than the run, a stage of no update, fractions of a run of
///                        unknown length, and what the stages' schedules throw.
Schedule chain(std::vector<ChainStage> stages);

}  // namespace torch_accelerated
