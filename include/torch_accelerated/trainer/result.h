// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "torch_accelerated/history/metric_values.h"

namespace torch_accelerated {

/// How far a run has come; all of it is on the host.
struct Progress {
  std::int64_t epoch = 0;            ///< from 1; 0 before the first
  std::int64_t micro_batch = 0;      ///< micro-batches of this epoch that have ended
  std::int64_t update = 0;           ///< updates of the run that have ended, skipped ones included
  std::int64_t skipped_updates = 0;  ///< of those, the ones that changed no weight
  double loss = 0;                   ///< mean loss of the last update
  double learning_rate = 0;          ///< of the first param group of the Trainer's own optimizer
};

/// What a run gave.
struct RunResult {
  Progress progress;
  std::string stop_reason;  ///< empty when the run went to its end
  MetricValues metrics;     ///< of the last finished epoch
  double seconds = 0;

  bool was_stopped() const noexcept { return !stop_reason.empty(); }
};

/// What an evaluation gave.
struct EvalResult {
  MetricValues metrics;   ///< "eval_loss", "eval_<name>" for each metric and scalar
  std::int64_t rows = 0;  ///< samples that were counted, each once
  std::int64_t batches = 0;
};

}  // namespace torch_accelerated
