// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/trainer/options.h"

namespace torch_accelerated {

class Trainer;

struct BatchSizeFinderOptions {
  std::int64_t initial = 8;     ///< rows of a micro-batch that are tried first
  std::int64_t maximum = 4096;  ///< and at most
  std::int64_t updates = 2;     ///< of a trial; the first one makes the optimizer's state

  /// Clipping, loaders, accumulation and seed as in the run that it is for; what it has of batch
  /// sizes, lengths, shards, scheduler and evaluation doesn't count.
  TrainOptions train = {};
};

/// One batch size that was tried.
struct BatchSizeTrial {
  std::int64_t rows = 0;  ///< of a micro-batch on each rank
  bool fits = false;      ///< on all ranks
};

/// What was found, and the trials in their order.
struct BatchSizeFinderResult {
  std::int64_t per_device_batch_size = 0;  ///< the largest one that fitted
  std::vector<BatchSizeTrial> trials = {};
};

/// Finds how many rows a micro-batch may have before a device runs out of memory: doubles
/// `initial` for as long as all ranks can train on so many, or halves it until they can. Tries no
/// more rows than `maximum`, and than a rank gets of the dataset. Collective; the result is the
/// same on all ranks.
///
/// In a trial each rank makes whole updates by itself and exchanges nothing with others, so that
/// none waits for one that has no memory: `Trainer::accelerator()` is one of a single process on
/// the same device, and SyncBatchNorm normalises the rank's own rows. Steps of a subclass use no
/// other way to other ranks. Where a run would hold gradients during forward, trials do so too.
///
/// Callbacks are not called. Afterwards the weights, buffers and modes of the model and of its
/// companions, what the Trainer's optimizers hold, random generators, history, run config and
/// progress are as before, also when a step throws; gradients are let go of. `request_stop` and the
/// like have to wait for the end.
///
/// What counts as out of memory is c10::OutOfMemoryError, std::bad_alloc, an Error with
/// ExitCode::kOutOfMemory and what LibTorch throws of other types for it. Where the system kills
/// programs that use too much of the host's memory, only `maximum` keeps trials from that.
/// @throws ArgumentError       options that can't be used, or as Trainer::train.
/// @throws CommunicationError  on all ranks: another rank's trial threw something else than out of
///                             memory, or ranks were given different options.
/// @throws UserCodeError       not even one row fits: ExitCode::kOutOfMemory, on all ranks.
/// @throws StateError          a run is going on.
BatchSizeFinderResult find_batch_size(Trainer& trainer, const Dataset& dataset,
                                      const BatchSizeFinderOptions& options = {});

}  // namespace torch_accelerated
