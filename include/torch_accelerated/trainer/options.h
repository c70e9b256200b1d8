// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "torch_accelerated/core/better.h"
#include "torch_accelerated/core/run_config.h"
#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/schedulers/scheduler.h"

namespace torch_accelerated {

/// How a Trainer's own loaders read a dataset. None of it changes a run's numbers but `shuffle`
/// and `drop_last`.
struct LoaderOptions {
  std::optional<bool> shuffle =
      {};                  ///< nothing: training data are shuffled, evaluation data are not
  bool drop_last = false;  ///< leaves out the short batch at the end of an epoch
  int num_workers = 0;     ///< threads that read ahead; 0 reads in the training thread
  std::int64_t prefetch_batches = 2;  ///< read ahead at most, for each worker
};

/// Whose rows a training dataset holds, where there are several ranks.
enum class Rows {
  kShared,   ///< all ranks give the same dataset, and each trains on its part of each batch
  kPerRank,  ///< each rank gives its own, of any length, also none; always so for a BatchSource
};

/// What happens when a checkpoint can't be written; the one before stays as it is in any case.
enum class SaveFailure {
  kThrow,  ///< FileError out of `train`, at the next update
  kWarn,   ///< a line in the log, and training goes on
};

/// How long a checkpoint stays.
enum class Retain {
  kByCount,  ///< until CheckpointOptions::keep_newest and keep_best let it go
  kForever,
};

/// Where a run keeps checkpoints and how many; when they are taken is up to SaveCheckpoints,
/// StopOnSignal or the program.
struct CheckpointOptions {
  /// Made where it is missing, and one job's alone while its run goes on. Empty: none are kept.
  std::filesystem::path directory = {};
  bool asynchronous = true;  ///< copied in the training thread and written beside it
  SaveFailure on_failure = SaveFailure::kThrow;
  std::optional<std::int64_t> keep_newest = 2;  ///< nothing: all
  std::int64_t keep_best = 0;                   ///< those with the best `metric`, beside the newest
  std::string metric = "eval_loss";             ///< of the newest row, where it is of that update
  Better direction = Better::kLower;
};

/// What `Trainer::train` is asked to do.
struct TrainOptions {
  std::int64_t num_epochs = 0;  ///< required by `train`; `start` does without
  Dataset eval_dataset = {};    ///< evaluated after each epoch, where given
  std::optional<std::int64_t> per_device_batch_size = {};  ///< rows of a micro-batch; 8 if neither
  std::optional<std::int64_t> global_batch_size = {};      ///< rows of an update, over all ranks
  std::optional<std::int64_t> eval_per_device_batch_size = {};  ///< nothing: as in training
  std::optional<std::int64_t> max_updates = {};  ///< ends the run, if the epochs don't before
  std::int64_t gradient_accumulation_steps = 1;  ///< micro-batches of an update
  /// From which epoch on (from 1) it is how many instead, such as {{3, 2}, {6, 4}}.
  std::map<std::int64_t, std::int64_t> accumulation_schedule = {};
  std::optional<double> clip_gradient_norm = {};   ///< of all of an optimizer's gradients together
  std::optional<double> clip_gradient_value = {};  ///< of each number
  SchedulerFactory scheduler = {};  ///< makes the scheduler of each optimizer, such as cosine({})
  LoaderOptions train_loader = {};
  LoaderOptions eval_loader = {};
  std::optional<std::int64_t> limit_train_batches = {};  ///< micro-batches of an epoch, at most
  std::optional<std::int64_t> limit_eval_batches = {};   ///< batches of an evaluation, at most
  std::int64_t sanity_eval_batches = 0;  ///< evaluated before training, to find mistakes early
  bool fast_dev_run = false;             ///< one epoch of one update and one evaluation batch
  std::optional<std::int64_t> overfit_batches = {};  ///< trains each epoch on the same first ones
  bool track_gradient_norm = false;  ///< into the history, also where no clipping computes it
  bool reset_history = true;         ///< false goes on with the rows of the run before
  NonFinite non_finite = NonFinite::kThrow;
  std::uint64_t seed = 0;  ///< of the order of samples and of their random streams, and of the
                           ///< model's random numbers with several ranks or shards
  Rows rows = Rows::kShared;
  /// Cuts each update's rows into so many shards, a power of two; 1, 2, 4 … ranks up to that number
  /// then end with the same bits for one global_batch_size, dropout included.
  std::optional<std::int64_t> deterministic_shards = {};
  int deterministic_threads = 1;  ///< within an operation, with `deterministic_shards`
  CheckpointOptions checkpoints = {};
  /// A checkpoint, such as `latest_checkpoint(directory)` finds: the run that it is of is finished
  /// as if it had never ended. Nothing: the run begins anew.
  std::optional<std::filesystem::path> resume_from = {};
  bool resume_with_changes = false;  ///< takes another run config than the checkpoint's, and warns
  bool resume_with_earlier = false;  ///< takes the newest good one before a damaged one, and warns
};

/// What `Trainer::evaluate` is asked to do.
struct EvalOptions {
  std::int64_t per_device_batch_size = 8;
  LoaderOptions loader = {};
  std::optional<std::int64_t> limit_batches = {};
};

/// What `Trainer::evaluate_intermediate` is asked to do.
struct IntermediateEvalOptions {
  std::string prefix = "intermediate_eval_";  ///< of the metrics' names
  std::optional<std::int64_t> limit_batches = {};
};

}  // namespace torch_accelerated
