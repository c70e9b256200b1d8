// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch_accelerated/core/running_mean.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/history/metric_values.h"

namespace torch_accelerated {

/// Averages by name what the micro-batches of an epoch give.
class EpochMeans {
 public:
  void add(std::string_view name, const Mean& mean, std::int64_t rows, bool only_finite = false);

  /// The loss (as "loss") and the scalars of `output`.
  /// @param only_finite  leaves out what is NaN or infinite, as skipped updates are.
  void add(const StepOutput& output, std::int64_t rows, bool only_finite = false);

  /// The averages under `prefix` + name, the loss first; waits for the device.
  MetricValues values(std::string_view prefix) const;

  void reset() { means_.clear(); }

 private:
  std::vector<std::pair<std::string, RunningMean>> means_;
};

}  // namespace torch_accelerated
