// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "models.h"

namespace benchmarks {

/// Rows of a batch, the same in python_contenders.py.
constexpr std::int64_t batch_size_of(Model model) {
  switch (model) {
    case Model::kConvolutional:
      return 64;
    case Model::kTransformer:
      return 16;
    default:
      return 32;
  }
}

/// Where batches come from.
enum class DataPath {
  kPremade,  ///< they are there before the clock starts, in the order of the rows
  kDataset,  ///< they are read from the dataset in a random order
};

/// What every contender does: updates of a model by SGD on the same rows, from the same weights,
/// reading each loss on the host.
struct Work {
  Model model;
  std::int64_t warm_up;  ///< updates before the clock starts
  std::int64_t updates;  ///< updates between its start and its stop
  DataPath data_path;
  torch::Tensor data;
  torch::Tensor target;

  std::int64_t batch_size() const noexcept { return batch_size_of(model); }

  /// Updates in all: one more than is timed, as the clock stops where the last one begins.
  std::int64_t total() const noexcept { return warm_up + updates + 1; }
};

/// As many rows as `total` updates take, the same in every process.
Work make_work(Model model, std::int64_t warm_up, std::int64_t updates);

/// Reads the time at the beginning of each forward. From one to the next lies all that an update
/// takes: the next batch, callbacks and bookkeeping included.
class Clock {
 public:
  using Time = std::chrono::steady_clock;

  explicit Clock(const Work& work) : warm_up_(static_cast<std::size_t>(work.warm_up)) {
    ticks_.reserve(static_cast<std::size_t>(work.total()));
  }

  void tick() { ticks_.push_back(Time::now()); }

  /// Nanoseconds of each timed update.
  std::vector<double> updates() const;

  /// Since the epoch of CLOCK_MONOTONIC, which all processes share.
  std::chrono::nanoseconds first_update_ended() const { return ticks_.at(1).time_since_epoch(); }

 private:
  std::size_t warm_up_;
  std::vector<Time::time_point> ticks_;
};

/// What a contender did.
struct Outcome {
  Clock clock;
  double loss;  ///< the mean of all updates' losses, equal where the work was
};

/// A contender's loop over `work`.
/// @throws std::invalid_argument  a name that isn't known, or one without that data path.
Outcome run_contender(const std::string& name, const Work& work);

}  // namespace benchmarks
