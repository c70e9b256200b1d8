// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// Where a micro-batch stands in its window, the micro-batches that make one update together.
///
/// The default is a micro-batch that is a window of its own.
struct WindowPosition {
  std::int64_t rows = 1;  ///< of this micro-batch on this rank; may be 0 where there are several

  /// Of the whole window and of all ranks, where known beforehand.
  std::optional<std::int64_t> window_rows = {};
  std::int64_t micro_batches = 1;  ///< of the window on this rank, as planned
  bool is_last = true;
  bool is_borrowed = false;  ///< whether its row is another rank's and only lent; then `rows` is 0
  bool is_shard = false;     ///< whether it is a shard of a deterministic run: sums go by a tree
};

/// What the accumulated gradients of a window are good for.
enum class Gradients {
  kReady,      ///< the exact gradient of the window's mean loss, over all ranks
  kEmpty,      ///< the window's total weight is 0: there is nothing to step by
  kNotFinite,  ///< a loss of the window, or its weight, was not finite
  kOverflow,   ///< losses were finite and gradients were not, scaled or compressed in fp16
  kUndecided,  ///< kReady, as it seems; the device knows, and doesn't step where they are not
};

/// What has been decided of an update when the host hears of it.
struct Verdict {
  const torch::optim::Optimizer* optimizer = nullptr;
  Gradients gradients = Gradients::kReady;
  bool is_usable = true;  ///< also false of gradients that are ready and have no finite norm
  double loss = 0;        ///< the mean of the window
};

/// What a rank may ask of all; it rides behind the gradients, so that asking costs nothing and all
/// ranks hear of it in the same update.
enum class Trigger : unsigned {
  kStop = 1,
  kEvaluation = 2,
  kCheckpoint = 4,
  kMore = 8,         ///< there are batches left, where ranks bring their own
  kSaving = 16,      ///< this rank is still writing its part of a checkpoint
  kSaveFailed = 32,  ///< this rank couldn't write its part
};

}  // namespace torch_accelerated
