// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "torch_accelerated/core/run_config.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/history/metric_values.h"
#include "torch_accelerated/trainer/result.h"

namespace torch_accelerated {

// The fifteen events, in the order of a run. References live as long as the call. Epochs count from
// 1, micro-batches and updates tell how many came before. Tensors stay on the device, without
// graph.

/// The Trainer is complete, once, before its first run or evaluation.
struct InitEnd {
  static constexpr const char* kName = "on_init_end";
};

struct TrainingRunStart {
  static constexpr const char* kName = "on_training_run_start";
  const RunConfig& config;
};

struct TrainEpochStart {
  static constexpr const char* kName = "on_train_epoch_start";
  std::int64_t epoch;
  std::optional<std::int64_t> batches;  ///< micro-batches of this epoch, where known
};

struct TrainStepStart {
  static constexpr const char* kName = "on_train_step_start";
  std::int64_t epoch;
  std::int64_t micro_batch;
  const Batch& batch;
};

/// After the micro-batch's backward and, at a window's end, after the update.
struct TrainStepEnd {
  static constexpr const char* kName = "on_train_step_end";
  std::int64_t epoch;
  std::int64_t micro_batch;
  const Batch& batch;
  const StepOutput& output;
  bool update_ended;     ///< whether this micro-batch was the last of its window
  bool update_skipped;   ///< whether that update changed no weight
  std::int64_t updates;  ///< of the run that have ended
};

struct TrainEpochEnd {
  static constexpr const char* kName = "on_train_epoch_end";
  std::int64_t epoch;
  const MetricValues& metrics;
  bool update_ended;     ///< whether the epoch's end made an update of a window that was open
  std::int64_t updates;  ///< of the run that have ended
};

struct EvalEpochStart {
  static constexpr const char* kName = "on_eval_epoch_start";
  std::int64_t epoch;                   ///< 0 in an evaluation without training
  std::optional<std::int64_t> batches;  ///< where known
  bool is_intermediate = false;         ///< whether it is none of those that end an epoch
};

struct EvalStepStart {
  static constexpr const char* kName = "on_eval_step_start";
  std::int64_t batch_index;
  const Batch& batch;
};

struct EvalStepEnd {
  static constexpr const char* kName = "on_eval_step_end";
  std::int64_t batch_index;
  const Batch& batch;
  const StepOutput& output;
};

struct EvalEpochEnd {
  static constexpr const char* kName = "on_eval_epoch_end";
  std::int64_t epoch;
  const MetricValues& metrics;
  bool is_intermediate = false;  ///< as in EvalEpochStart
};

/// After an epoch's training and evaluation.
struct TrainingRunEpochEnd {
  static constexpr const char* kName = "on_training_run_epoch_end";
  std::int64_t epoch;
  const MetricValues& metrics;  ///< the history's new row
};

/// The run has come to its end or been stopped; not after an exception.
struct TrainingRunEnd {
  static constexpr const char* kName = "on_training_run_end";
  const RunResult& result;
};

/// An evaluation without training begins.
struct EvaluationRunStart {
  static constexpr const char* kName = "on_evaluation_run_start";
  std::optional<std::int64_t> batches;  ///< where known
};

struct EvaluationRunEnd {
  static constexpr const char* kName = "on_evaluation_run_end";
  const EvalResult& result;
};

/// A stop that was requested takes effect; TrainingRunEnd follows.
struct StopTrainingError {
  static constexpr const char* kName = "on_stop_training_error";
  const std::string& reason;
};

}  // namespace torch_accelerated
