// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace torch_accelerated {

/// What happens to an update whose loss, or whose gradient norm where clipping or
/// track_gradient_norm computes it, is not finite; it doesn't reach the weights.
enum class NonFinite {
  kThrow,  ///< NumericError out of `train`
  kStop,   ///< the run ends as if a stop had been requested
  kSkip,   ///< the update is skipped and counted
};

/// What a run will do: the options that were asked for, resolved once before the first event.
struct RunConfig {
  std::int64_t num_epochs = 0;
  std::optional<std::int64_t> train_rows;  ///< nothing for a stream of unknown length
  std::optional<std::int64_t> eval_rows;   ///< nothing without an evaluation dataset
  std::int64_t per_device_batch_size = 0;  ///< rows of a micro-batch; 0 for a stream
  std::int64_t global_batch_size = 0;      ///< rows of an update, all ranks; 0 for a stream
  std::int64_t eval_per_device_batch_size = 0;
  std::optional<bool> shuffle;    ///< of rows that ranks share; nothing where a source decides
  std::optional<bool> drop_last;  ///< likewise
  std::int64_t gradient_accumulation_steps = 1;                ///< micro-batches of an update
  std::map<std::int64_t, std::int64_t> accumulation_schedule;  ///< the same from an epoch on
  std::optional<std::int64_t> batches_per_epoch;               ///< micro-batches, limits applied
  std::optional<std::int64_t> updates_per_epoch;  ///< nothing where it changes from epoch to epoch
  std::optional<std::int64_t> max_updates;        ///< as asked
  std::optional<std::int64_t> total_updates;      ///< of the whole run, where it is known
  std::optional<std::int64_t> limit_train_batches;  ///< of an epoch
  std::optional<std::int64_t> limit_eval_batches;   ///< of an evaluation
  std::int64_t sanity_eval_batches = 0;
  std::optional<std::int64_t> overfit_batches;
  std::optional<double> clip_gradient_norm;
  std::optional<double> clip_gradient_value;
  bool track_gradient_norm = false;
  NonFinite non_finite = NonFinite::kThrow;
  std::uint64_t seed = 0;  ///< as TrainOptions::seed
  std::string device = "cpu";
  std::string mixed_precision = "no";
  int world_size = 1;
  std::string reduction = "none";             ///< how gradients are added up over ranks
  std::int64_t deterministic_shards = 0;      ///< of an update; 0 where the run isn't deterministic
  std::int64_t micro_batches_per_update = 1;  ///< of a rank
  std::string arithmetic;                     ///< threads and kernels of a deterministic run
  std::string memory;                         ///< how it is laid out and kept
  std::string optimizers;                     ///< names and types
  std::string optimizer_steps;                ///< "fused" or "plain", one an optimizer
  std::string scheduler;                      ///< "none" or what drives the learning rates
  std::int64_t parameters = 0;                ///< trainable numbers of all modules

  bool operator==(const RunConfig&) const = default;

  /// Micro-batches of an update in `epoch`, counted from 1.
  std::int64_t accumulation_steps(std::int64_t epoch) const noexcept;

  /// Name and value of each field, in order.
  std::vector<std::pair<std::string, std::string>> fields() const;

  /// The fields as a table of two columns, one line each.
  std::string table() const;
};

const char* to_string(NonFinite policy);

}  // namespace torch_accelerated
