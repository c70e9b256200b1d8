// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/checkpoint/weights.h"
#include "torch_accelerated/core/loss_function.h"
#include "torch_accelerated/core/model.h"
#include "torch_accelerated/core/run_config.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/data/batch_source.h"
#include "torch_accelerated/data/data_loader.h"
#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/history/history.h"
#include "torch_accelerated/metrics/metric.h"
#include "torch_accelerated/schedulers/scheduler.h"
#include "torch_accelerated/trainer/callback_list.h"
#include "torch_accelerated/trainer/options.h"
#include "torch_accelerated/trainer/result.h"

namespace torch_accelerated {

class EpochMeans;  // the library's own, as the next three
struct EpochSummary;
struct RefusedUpdate;
struct TrainerState;

struct BatchSizeFinderOptions;
struct BatchSizeFinderResult;

/// When a metric is computed.
enum class MetricPhases { kEvaluation, kTrainingAndEvaluation };

/// Owns a minimal loop of training and evaluation, made of steps that a subclass may override.
///
/// A run and everything it calls stay in one thread, but for `request_stop`. What a step or a
/// callback throws ends the run: an Error passes as it is, anything else as a UserCodeError around
/// it; the Trainer can be used again after that.
class Trainer {
 public:
  /// @param optimizer    outlives the Trainer, as a given `accelerator` does.
  /// @param accelerator  null: the Trainer makes one with default options.
  Trainer(Model model, LossFunction loss_function, torch::optim::Optimizer& optimizer,
          CallbackList callbacks = default_callbacks(), Accelerator* accelerator = nullptr);
  virtual ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Trains for a number of epochs, with an evaluation after each where there is a dataset for it.
  /// @throws ArgumentError  options or objects that can't be used, all told at once, before any
  /// event.
  /// @throws NumericError   a loss that is not finite, under NonFinite::kThrow.
  RunResult train(Dataset dataset, TrainOptions options);

  /// The same on a user's own batches.
  RunResult train(BatchSource& source, TrainOptions options);

  /// Evaluates on the run's evaluation dataset from an event or a step of the run, which goes on as
  /// if nothing had happened: modules have their modes back. What it finds goes into the history:
  /// into the epoch's row when its training has ended, before that into a row of its own. Cut short
  /// by a stop, it finds nothing. Collective.
  /// @throws StateError  no run with an `eval_dataset` is going on, or it is evaluating right now.
  EvalResult evaluate_intermediate(const IntermediateEvalOptions& options = {});

  /// Evaluates without training; the history stays as it is.
  EvalResult evaluate(Dataset dataset, EvalOptions options = {});
  EvalResult evaluate(BatchSource& source, EvalOptions options = {});

  /// `start`, any number of `step`s and `finish` are what `train` is made of, for programs that own
  /// the loop: streams, simulations, reinforcement learning. The steps are one epoch, which
  /// `finish` ends, with an evaluation where a dataset for it was given.
  void start(TrainOptions options);

  /// Trains on one micro-batch.
  StepOutput step(const Batch& batch);

  /// Ends the run; micro-batches of a window that is not full make a last update.
  RunResult finish();

  /// Back-propagates a loss and, at the end of a window, updates the parameters of `optimizer` and
  /// no others: reduce, clip, step, schedule, zero. For `train_step`, once for each optimizer.
  void optimize(const Mean& loss, torch::optim::Optimizer& optimizer);

  /// Adds a module that trains or is used beside the model: moved to the device and switched
  /// between train and eval mode with it.
  /// @throws ArgumentError  a name that is taken.
  /// @throws StateError     during a run, as for the next two.
  void register_module(std::string name, Model module);

  /// Adds an optimizer for `optimize`; it gets a scheduler of its own.
  void add_optimizer(std::string name, torch::optim::Optimizer& optimizer);

  /// Adds a metric, reported as eval_<name> and, where asked, as train_<name>.
  void add_metric(std::string name, Metric metric, MetricPhases phases = MetricPhases::kEvaluation);

  /// Ends the run, on all ranks together, after the update in progress: the first one whose
  /// gradients are reduced after the request. Callable from any thread and on any rank. The first
  /// reason counts, and a request made while nothing runs is forgotten when the next run starts.
  void request_stop(std::string reason);

  /// Asks for an intermediate evaluation, by all ranks together, after the update in progress: the
  /// first one whose gradients are reduced after the request. Callable from any thread and on any
  /// rank; nothing where the run has no `eval_dataset`.
  void request_evaluation() noexcept;

  /// Saves a checkpoint into `TrainOptions::checkpoints.directory`: at once between steps of a
  /// program's own loop; from an event of the run when all callbacks have had it, if an update ends
  /// there, else at the next that does. Called on all ranks alike.
  /// @throws StateError  no run that keeps checkpoints is going on.
  void save_checkpoint(Retain retain = Retain::kByCount);

  /// Asks for one, after the first update whose gradients are reduced after the request. Callable
  /// from any thread and on any rank; nothing where the run keeps none.
  void request_checkpoint() noexcept;

  /// Whether a run that keeps checkpoints is going on.
  bool keeps_checkpoints() const noexcept;

  /// Where it keeps them, absolute.
  /// @throws StateError  as save_checkpoint.
  std::filesystem::path checkpoint_directory() const;

  /// Writes the model's weights from the main process, as the function of this name. Collective.
  void save_weights(const std::filesystem::path& file);

  /// Reads the model's weights on all ranks, as the function of this name. Collective.
  LoadReport load_weights(const std::filesystem::path& file,
                          const LoadWeightsOptions& options = {});

  /// Whether this rank has requested a stop; other ranks may not know of it yet.
  bool stop_requested() const noexcept;

  Progress progress() const;
  const Model& model() const noexcept;
  const LossFunction& loss_function() const noexcept;
  torch::optim::Optimizer& optimizer() const noexcept;
  Accelerator& accelerator() const noexcept;
  CallbackList& callbacks() noexcept;
  const History& history() const noexcept;

  /// Keeps the rows in another history, such as one that isn't only in memory.
  /// @return the one that was in use.
  /// @throws ArgumentError  null.
  /// @throws StateError     during a run.
  std::unique_ptr<History> use_history(std::unique_ptr<History> history);

  /// What each evaluation finds, without its prefix: "loss" and the added metrics; a step's own
  /// `scalars` come on top.
  std::vector<std::string> evaluation_metrics() const;

  /// Metrics that each epoch's row of the run in progress will have; a step's own `scalars` come on
  /// top.
  std::vector<std::string> metric_names() const;

  /// For callbacks that watch a metric, before training starts.
  /// @throws ArgumentError  no row can have `name`; suggests the nearest. `watcher` starts the
  ///                        message.
  void require_metric(const std::string& watcher, const std::string& name) const;

  /// What the current or last run does, or an evaluation before any run did.
  /// @throws StateError  before the first of them.
  const RunConfig& run_config() const;

  /// Writes one line to stdout, from the main process only.
  void print(std::string_view line) const;

 protected:
  /// What the asked options come to; the loop follows what this returns. The loaders exist by then.
  virtual RunConfig create_run_config(const TrainOptions& options, const BatchSource* source);
  virtual std::unique_ptr<BatchSource> create_train_dataloader(Dataset dataset,
                                                               const DataLoaderOptions& options);
  virtual std::unique_ptr<BatchSource> create_eval_dataloader(Dataset dataset,
                                                              const DataLoaderOptions& options);
  virtual DataLoaderOptions default_train_loader_options(const TrainOptions& options) const;
  virtual DataLoaderOptions default_eval_loader_options(const LoaderOptions& options,
                                                        std::int64_t batch_size) const;
  /// Null: the learning rates of `optimizer` stay as they are.
  virtual std::unique_ptr<Scheduler> create_scheduler(torch::optim::Optimizer& optimizer,
                                                      const TrainOptions& options,
                                                      const RunConfig& config);

  virtual void training_run_start();  ///< puts all modules into train mode
  virtual void train_epoch_start() {}
  virtual StepOutput train_step(const Batch& batch);  ///< = the next one and `optimize`
  virtual StepOutput calculate_train_batch_loss(const Batch& batch);
  virtual void backward_step(const Mean& loss, torch::optim::Optimizer& optimizer);
  /// Returns the norm before clipping where it was computed, else an undefined tensor.
  virtual torch::Tensor clip_gradients(torch::optim::Optimizer& optimizer);
  virtual void optimizer_step(torch::optim::Optimizer& optimizer);
  virtual void scheduler_step(torch::optim::Optimizer& optimizer);
  virtual void optimizer_zero_grad(torch::optim::Optimizer& optimizer);
  virtual void train_epoch_end() {}
  virtual void training_run_epoch_end() {}
  virtual void training_run_end() {}

  virtual void evaluation_run_start() {}
  virtual void eval_epoch_start() {}
  virtual StepOutput calculate_eval_batch_loss(const Batch& batch);
  virtual void eval_epoch_end() {}
  virtual void evaluation_run_end() {}

 private:
  // Which runs trials on an accelerator of their own.
  friend BatchSizeFinderResult find_batch_size(Trainer& trainer, const Dataset& dataset,
                                               const BatchSizeFinderOptions& options);

  // The loop, in the order of a run.
  std::unique_ptr<BatchSource> train_source(const Dataset& dataset, const TrainOptions& options);
  void open_checkpoint(TrainOptions& options);
  RunResult run(BatchSource& source, const TrainOptions& options);
  void begin_run(BatchSource* source, const TrainOptions& options);
  void set_up_run();
  void set_up_alone();
  void check_checkpoints() const;
  bool is_complete() const;
  bool resume();
  void sanity_evaluation();
  void begin_epoch();
  bool train_one_epoch();
  StepOutput micro_batch(Batch given);
  StepOutput training_step(const Batch& batch);
  bool is_skipped() const;
  StepOutput skip_step(const Batch& batch);
  StepOutput step_on_borrowed(const Batch& batch);
  void complete_update(torch::optim::Optimizer& optimizer, bool may_be_late);
  void note_update(const torch::optim::Optimizer& optimizer, Gradients gradients);
  bool is_usable(const torch::optim::Optimizer& optimizer, Gradients gradients,
                 const torch::Tensor& norm);
  void skip_update(torch::optim::Optimizer& optimizer, Gradients gradients);
  void refuse_update(const RefusedUpdate& refused);
  enum class Updates { kAll, kButTheNewest };
  void hear_verdicts(Updates updates);
  void warn_of_plain_steps() const;
  bool is_saving() const;
  void record(const Batch& batch, const StepOutput& output);
  void end_update();
  bool close_open_windows();
  void end_epoch();
  HistoryRow make_row(const EpochSummary& training);
  std::vector<std::string> own_metric_names() const;
  void check_metric_names() const;
  void take_requests();
  void take_checkpoint();
  void advance_checkpoints();
  void finish_checkpoints();
  void tell_committed();
  RunResult end_run();

  void evaluate_batch(const Batch& given, EvalResult& result, EpochMeans& means);
  EvalResult evaluation(BatchSource& source, std::int64_t epoch,
                        const IntermediateEvalOptions& options, bool is_intermediate);
  bool read_all(BatchSource& source, std::optional<std::int64_t> limit, EvalResult& result,
                EpochMeans& means);
  EvalResult evaluate_alone(BatchSource& source, const EvalOptions& options);
  RunConfig evaluation_config(const BatchSource& source, const EvalOptions& options) const;

  std::unique_ptr<TrainerState> state_;
};

}  // namespace torch_accelerated
