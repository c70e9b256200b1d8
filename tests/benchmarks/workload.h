// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <chrono>
#include <cstdint>
#include <limits>
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
    case Model::kResNet50:
      return 64;
    case Model::kGpt2:
      return 8;
    default:
      return 32;
  }
}

/// Batches that there are, and come again in turn; so many of large models fit on a GPU.
constexpr std::int64_t most_batches_of(Model model) {
  const bool is_large = model == Model::kResNet50 || model == Model::kGpt2;
  return is_large ? 8 : std::numeric_limits<std::int64_t>::max();
}

/// Where batches come from.
enum class DataPath {
  kPremade,  ///< they are there before the clock starts, in the order of the rows
  kDataset,  ///< they are read from the dataset in a random order
};

/// What every contender does: updates of a model by SGD on the same rows, from the same weights,
/// reading each loss on the host, or on a GPU their sum in the end.
struct Work {
  Model model;
  std::int64_t warm_up;  ///< updates before the clock starts
  std::int64_t updates;  ///< updates between its start and its stop
  DataPath data_path;
  c10::Device device;
  torch::Tensor data;
  torch::Tensor target;

  std::int64_t batch_size() const noexcept { return batch_size_of(model); }

  /// Updates in all: one more than is timed, as the clock stops where the last one begins.
  std::int64_t total() const noexcept { return warm_up + updates + 1; }

  bool is_bf16() const noexcept { return model == Model::kResNet50 || model == Model::kGpt2; }

  /// The batch of an update, of those that are premade.
  std::int64_t place(std::int64_t update) const noexcept { return update % most_batches_of(model); }
};

/// As many rows as `total` updates take, the same in every process, on `device`.
Work make_work(Model model, std::int64_t warm_up, std::int64_t updates, c10::Device device);

/// Reads the time at the beginning of each forward. From one to the next lies all that an update
/// takes: the next batch, callbacks and bookkeeping included. A GPU is waited for where the timed
/// updates begin and end, so that there only their mean says something.
class Clock {
 public:
  using Time = std::chrono::steady_clock;

  explicit Clock(const Work& work)
      : warm_up_(static_cast<std::size_t>(work.warm_up)),
        last_(static_cast<std::size_t>(work.total()) - 1),
        waits_(work.device.is_cuda()) {
    ticks_.reserve(last_ + 1);
  }

  void tick() {
    if (waits_ && (ticks_.size() == warm_up_ || ticks_.size() == last_)) torch::cuda::synchronize();
    ticks_.push_back(Time::now());
  }

  /// Nanoseconds of each timed update.
  std::vector<double> updates() const;

  /// Since the epoch of CLOCK_MONOTONIC, which all processes share.
  std::chrono::nanoseconds first_update_ended() const { return ticks_.at(1).time_since_epoch(); }

 private:
  std::size_t warm_up_;
  std::size_t last_;
  bool waits_;
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
