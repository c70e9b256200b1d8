// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/trainer/options.h"

namespace torch_accelerated {

class Trainer;

/// How the learning rate rises from one update to the next.
enum class RateSweep {
  kExponential,  ///< by a factor
  kLinear,       ///< by a difference
};

struct LearningRateFinderOptions {
  double start_rate = 1e-7;
  double end_rate = 10;
  std::int64_t updates = 100;
  RateSweep sweep = RateSweep::kExponential;
  double smoothing = 0.9;        ///< how much of the mean loss so far remains at each update
  double divergence_factor = 4;  ///< of the best smoothed loss: beyond it the sweep ends

  /// Batch sizes, accumulation, clipping, loaders and seed as in the run that it is for; what it
  /// has of lengths, scheduler and evaluation doesn't count.
  TrainOptions train = {};
};

/// What a sweep found: one entry an update, and the learning rates that they suggest.
struct LearningRateFinderResult {
  std::vector<double> rates = {};
  std::vector<double> losses = {};           ///< means over all ranks, before the update
  std::vector<double> smoothed_losses = {};  ///< exponential moving averages, without their bias
  RateSweep sweep = RateSweep::kExponential;
  bool diverged = false;  ///< whether the sweep ended before its last update

  /// Where the smoothed loss falls fastest on its way to its lowest; nothing where it doesn't fall.
  /// The search begins where a fifth of that way is done, counted from the median of the first half
  /// of the losses before the lowest: at lower rates the slopes are the batches' noise.
  std::optional<double> steepest_descent = {};

  /// A tenth of the rate of the lowest smoothed loss; nothing where that is the first.
  std::optional<double> tenth_of_minimum = {};

  /// Both losses over the learning rate with the suggestions marked, as the text of an SVG file.
  std::string svg() const;
};

/// The learning rate of update `update` (from 0) of the sweep: with t = update / (updates - 1),
/// start (end / start)^t or start + (end - start) t.
double sweep_rate(std::int64_t update, const LearningRateFinderOptions& options);

/// Trains `trainer`'s model for a while, each update at a higher learning rate, and looks at what
/// the loss does. Collective; the result is the same on all ranks.
///
/// Callbacks are not called. Afterwards the model's weights, buffers and modes, what the Trainer's
/// own optimizer holds, history and callbacks are as before, also when training throws; of
/// companions and further optimizers only the parameters that the own optimizer holds are. Param
/// groups keep the ratios between their rates; the first one's is swept and suggested.
/// @throws ArgumentError  rates that are not positive or don't rise, fewer than 2 updates, a
///                        smoothing outside [0, 1), a divergence factor <= 1; or as Trainer::train.
/// @throws StateError     a run is going on, or a subclass's `create_scheduler` makes no sweep.
/// @par Source  Smith 2017 (arXiv:1506.01186), section 3.3.
LearningRateFinderResult find_learning_rate(Trainer& trainer, const Dataset& dataset,
                                            const LearningRateFinderOptions& options = {});

}  // namespace torch_accelerated
