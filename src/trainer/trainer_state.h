// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <chrono>
#include <deque>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "torch_accelerated/accelerator/seed_scope.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/batch_cursor.h"
#include "trainer/deterministic_arithmetic.h"
#include "trainer/epoch_means.h"
#include "trainer/resumption.h"
#include "trainer/run_checkpoints.h"
#include "trainer/small_step.h"
#include "trainer/stop_request.h"

namespace torch_accelerated {

/// One of the optimizers of a Trainer, with what drives its learning rates during a run.
struct OptimizerSlot {
  std::string name;
  torch::optim::Optimizer* optimizer;
  std::unique_ptr<Scheduler> scheduler = nullptr;
  std::vector<std::optional<double>> momenta_before_run = {};  // likewise
  std::vector<double> rates_before_run = {};  // given back at the end: a schedule is the run's
  std::vector<double> rates = {};             // of the last update, one a param group

  void note_rates();

  /// What groups that callbacks have added had before a schedule moves them.
  void note_new_groups();
};

struct MetricSlot {
  std::string name;
  Metric metric;
  MetricPhases phases;
};

/// The numbers of an epoch or an evaluation, the same on all ranks.
struct EpochSummary {
  MetricValues metrics = {};
  std::int64_t rows = 0;
  double seconds = 0;
  std::optional<double> peak_device_bytes = {};  // of the device that had most in use
};

/// Of which the host hasn't heard whether it reached the weights.
struct UndecidedUpdate {
  std::int64_t update;
  std::int64_t epoch;
};

/// One that hasn't reached the weights.
struct RefusedUpdate {
  UndecidedUpdate place;
  Gradients gradients;
  std::string on_ranks;  ///< whose losses were not finite; see TrainerState::ranks_not_finite
};

/// What exists from the start of a run to its end.
struct Run {
  TrainOptions options;
  BatchSource* source = nullptr;  // none where the program owns the loop
  std::unique_ptr<BatchSource> eval_source = nullptr;
  Sharing sharing = {};                          // of `source`
  std::optional<std::int64_t> longest = {};      // batches of the longest source, per rank
  std::optional<std::int64_t> rows_of_all = {};  // rows of all sources, per rank
  std::unique_ptr<DeterministicArithmetic> arithmetic = nullptr;
  std::unique_ptr<SeedScope> random = nullptr;       // where the model's random numbers are keyed
  std::vector<torch::optim::Optimizer*> order = {};  // in which a micro-batch steps them
  std::int64_t place_in_window = 0;                  // of the micro-batch in progress
  bool stops = false;                                // whatever has been requested
  bool reduced = false;                              // in the window in progress
  WindowPosition position = {};                      // of the micro-batch in progress
  std::optional<SmallSteps> small_steps = {};        // from the first step on
  bool only_own_parameters = false;  // whether gradients must be kept to each optimizer's own
  bool update_skipped = false;       // in the window in progress
  std::deque<UndecidedUpdate> undecided = {};  // one for each of the accelerator's late verdicts
  std::int64_t last_bad_update = -1;           // of those
  bool in_epoch = false;
  std::unique_ptr<Resumption> resumption = nullptr;  // until the run has come to its place
  std::unique_ptr<RunCheckpoints> checkpoints = nullptr;
  std::optional<Retain> save_due = {};  // at the next update's boundary
  std::int64_t first_update = 0;        // of this process
  std::int64_t first_epoch = 0;     // of the history's rows that were there before, the last one's
  bool evaluating = false;          // batches are being read for an evaluation
  EpochMeans means = {};            // of the epoch in progress
  std::int64_t rows = 0;            // of the epoch in progress
  MetricValues train_metrics = {};  // of the last finished epoch
  MetricValues beside = {};         // what intermediate evaluations found for the row
  MetricValues metrics = {};        // the last finished row
  std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point epoch_began = began;
};

/// What an exception out of a call does to a run that is going on.
enum class OnError { kEndRun, kKeepRun };

struct TrainerState {
  TrainerState(Model model_, LossFunction loss_function_, torch::optim::Optimizer& optimizer,
               CallbackList callbacks_, Accelerator* given);

  Model model;
  LossFunction loss_function;
  CallbackList callbacks;
  std::unique_ptr<Accelerator> own_accelerator;  // where none was given
  Accelerator* accelerator;
  std::vector<std::pair<std::string, Model>> modules;  // the model first, then its companions
  std::vector<OptimizerSlot> optimizers;               // the Trainer's own first
  std::vector<MetricSlot> metrics;
  std::unique_ptr<History> history = std::make_unique<InMemoryHistory>();
  std::optional<RunConfig> config;              // of the run in progress, or of the last
  Progress progress;                            // likewise
  std::unique_ptr<Resumption> resumption;       // opened for the run that is about to begin
  std::unique_ptr<RunCheckpoints> checkpoints;  // likewise
  std::optional<Run> run;
  StopRequest stop;
  bool initialised = false;
  bool moves_run = false;       // whether a call that is part of the run has not returned yet
  const char* phase = "train";  // what is called right now, for messages
  std::string failed_batch;     // what it was called with, where it threw

  Run& running(const char* call);

  /// The run, where the program owns its loop.
  Run& own_loop(const char* call);
  OptimizerSlot& slot_of(const torch::optim::Optimizer& optimizer);
  void require_idle(const char* call) const;

  /// Micro-batches of an update of the epoch in progress.
  std::int64_t window() const;

  /// Forward and loss of one micro-batch.
  StepOutput batch_loss(const Batch& of) const;

  /// Fires `on_init_end` once, and puts all modules on the device.
  void prepare(Trainer& trainer);

  template <class Event>
  void notify(Trainer& trainer, void (Callback::*method)(Trainer&, const Event&),
              const Event& event) {
    const char* outer = std::exchange(phase, Event::kName);
    callbacks.notify(method, trainer, event);
    phase = outer;  // not when it throws: the message is to say where
  }

  bool has_sync_batch_norm() const;

  // What the ranks of a run do so that each takes the same way through it; trainer_ranks.cpp.

  /// Everything that decides which way a run takes is the same on all ranks, or all throw.
  void check_ranks();
  void check_kind_of_rows();
  void check_evaluation_ranks(const BatchSource& source, std::optional<std::int64_t> limit);
  void exchange_lengths();
  void begin_source(const BatchCursor& cursor);
  std::optional<Batch> next_batch(BatchCursor& cursor);
  bool has_more(const BatchCursor& cursor) const;
  void seed_micro_batch();

  /// Whether all ranks stop after the update that has just ended.
  bool stops() const;
  bool stops_now();  // the same, asked of all ranks at once

  /// Whether a stop ends an evaluation: not where a checkpoint may follow, which must have its row
  /// whole.
  bool may_cut_evaluation() const;
  std::string agreed_stop_reason();

  /// Whether the update that ends now may be on its way without being known to be usable.
  bool verdict_may_be_late() const;

  EpochSummary summed_up(const EpochMeans& means, std::int64_t rows, double seconds,
                         std::string_view prefix);

  /// The main process's `seconds`: what callbacks see is the same on all ranks.
  double main_clock(double seconds);

  /// " on rank 1, 2", empty in one process.
  std::string ranks_not_finite() const;

  /// The shards by which means are added up, in a deterministic run.
  std::optional<EpochMeans::Shards> shards() const;

  /// How many more micro-batches the epoch that begins may have, where there is a limit.
  std::optional<std::int64_t> batches_left() const;

  /// Runs what a user called, with the promise about exceptions that Trainer's comment gives; only
  /// calls that are parts of the run end it.
  template <class Body>
  auto guarded(const char* call, OnError on_error, Body&& body) {
    struct Scope {
      TrainerState& state;
      const char* outer_phase;
      bool outer_moves_run;
      ~Scope() {
        state.phase = outer_phase;
        state.moves_run = outer_moves_run;
      }
    } const scope{*this, std::exchange(phase, call),
                  std::exchange(moves_run, moves_run || on_error == OnError::kEndRun)};
    try {
      return body();
    } catch (...) {
      rethrow_with_context(on_error);
    }
  }

  /// Ends the run without events, as an exception does.
  void abandon_run() noexcept;

  /// Schedulers that watch a metric get its newest value of the epoch that has ended.
  void end_epoch_of_schedulers(const Trainer& trainer);

  /// Gives back what the run has changed outside itself.
  void release_run() noexcept;

 private:
  void tell_of_more(const BatchCursor& cursor);
  [[noreturn]] void rethrow_with_context(OnError on_error);
  std::string context(const std::string& what) const;
  std::string place() const;
  void leave(Error& error, const std::string& line) noexcept;
};

/// Writes down what a step's batch looked like when the step throws: by the time that the message
/// is made, the batch is gone.
class BatchInStep {
 public:
  BatchInStep(TrainerState& state, const Batch& batch)
      : state_(state), batch_(batch), exceptions_(std::uncaught_exceptions()) {}
  ~BatchInStep() {
    if (std::uncaught_exceptions() > exceptions_) note();
  }
  BatchInStep(const BatchInStep&) = delete;
  BatchInStep& operator=(const BatchInStep&) = delete;

 private:
  // Some tensors can't even be asked for their sizes, and nothing may be thrown from here.
  void note() noexcept {
    try {
      state_.failed_batch = batch_.describe();
    } catch (...) {
      state_.failed_batch.clear();
    }
  }

  TrainerState& state_;
  const Batch& batch_;
  int exceptions_;
};

/// `a * b` of two numbers >= 0, the largest int64 where it would be larger: lengths may be given as
/// "until stopped".
inline std::int64_t product(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<std::int64_t>::max() : result;
}

/// Notes what `loader`, called `name` in the messages, has wrong for `rows` samples.
void check_loader(OptionCheck& check, const std::string& name, const LoaderOptions& loader,
                  std::optional<std::int64_t> rows, std::int64_t batch_size);

/// What `options` and the Trainer's objects have wrong, all at once.
/// @param rows  of the training dataset, nothing for a source of batches.
/// @throws ArgumentError
void check_run(const char* call, const TrainOptions& options, std::optional<std::int64_t> rows,
               const TrainerState& state);

}  // namespace torch_accelerated
