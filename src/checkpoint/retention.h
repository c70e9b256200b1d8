// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "checkpoint/found_checkpoint.h"

namespace torch_accelerated {

/// How many checkpoints stay. One that is among the newest or among the best stays.
struct RetentionOptions {
  std::optional<std::int64_t> keep_newest = std::nullopt;  ///< all, where not given
  std::int64_t keep_best = 0;                              ///< of those with a metric
  bool lower_is_better = true;
};

/// Which of `checkpoints`, by their places and in rising order, are not to be kept. The one that
/// was committed last always is, and one whose manifest says so; of two with the same metric the
/// one committed earlier is better.
///
/// @throws ArgumentError  a negative number.
std::vector<std::size_t> to_remove(const std::vector<FoundCheckpoint>& checkpoints,
                                   const RetentionOptions& options);

}  // namespace torch_accelerated
