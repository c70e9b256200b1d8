// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace torch_accelerated {

/// Where a micro-batch stands in its window, the micro-batches that make one update together.
///
/// The default is a micro-batch that is a window of its own.
struct WindowPosition {
  std::int64_t rows = 1;                         ///< of this micro-batch
  std::optional<std::int64_t> window_rows = {};  ///< of the whole window, where known beforehand
  std::int64_t micro_batches = 1;                ///< of the window, as planned
  bool is_last = true;
};

/// What the accumulated gradients of a window are good for.
enum class Gradients {
  kReady,      ///< the exact gradient of the window's mean loss
  kEmpty,      ///< the window's total weight is 0: there is nothing to step by
  kNotFinite,  ///< a loss of the window, or its weight, was not finite
};

}  // namespace torch_accelerated
