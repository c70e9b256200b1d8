// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch_accelerated/core/running_mean.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/history/metric_values.h"

namespace torch_accelerated {

/// Averages by name what the micro-batches of an epoch give, on this rank and over ranks.
class EpochMeans {
 public:
  /// In which order all ranks' micro-batches are added up, where that must not depend on the number
  /// of ranks: by update, then by shard.
  struct Shards {
    int rank = 0;
    std::int64_t each = 1;  ///< shards of an update on each rank
  };

  /// Begins anew.
  /// @param shards     nothing: sums of ranks are added up in rank order.
  /// @param by_update  whether what an update's micro-batches give is added at its end only, so
  /// that
  ///                   an update that is skipped is left out as a whole, on all ranks.
  void reset(std::optional<Shards> shards = {}, bool by_update = false);

  void add(std::string_view name, const Mean& mean, std::int64_t rows);

  /// The loss (as "loss") and the scalars of `output`.
  void add(const StepOutput& output, std::int64_t rows);

  /// The next micro-batch begins.
  void next() noexcept { ++micro_batch_; }

  /// An update has ended.
  /// @param counts  whether it reached the weights.
  void end_update(bool counts);

  /// What micro-batches have given so far, by name: (parts, 3) float64 of place, sum and weight.
  /// Between updates only; waits for the device.
  TensorDict sums() const;

  /// Adds what `sums` gave, of this rank or of one that isn't there any more.
  /// @throws CheckpointError  tensors that it didn't give.
  void add_sums(const TensorDict& sums);

  /// The next micro-batch is the epoch's `micro_batch`th.
  void skip_to(std::int64_t micro_batch) noexcept { micro_batch_ = micro_batch; }

  /// Everything as bytes, for other ranks; waits for the device.
  std::string packed() const;

  /// The averages over what all ranks have packed, under `prefix` + name, the loss first.
  static MetricValues values(const std::vector<std::string>& packed, std::string_view prefix);

 private:
  struct Entry {
    std::string name;
    RunningMean mean;       // without shards
    RunningMean of_update;  // likewise, where by update
    std::vector<std::pair<std::int64_t, RunningMean>>
        of_shard;  // by the shard's place in the epoch
  };

  Entry& entry(std::string_view name);

  std::optional<Shards> shards_;
  bool by_update_ = false;
  std::int64_t micro_batch_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace torch_accelerated
