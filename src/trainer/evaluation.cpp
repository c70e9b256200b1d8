// SPDX-License-Identifier: Apache-2.0
// Evaluation, within a run and alone.
#include <torch/torch.h>

#include <algorithm>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/batch_cursor.h"
#include "trainer/evaluation_mode.h"
#include "trainer/trainer_state.h"
#include "trainer/trial_options.h"

namespace torch_accelerated {
namespace {

// How long ranks go on evaluating before they hear of each other.
constexpr int kBatchesBetweenWords = 50;

void check_evaluation(const EvalOptions& options, const Dataset* dataset) {
  OptionCheck check("evaluate");
  check.require(options.per_device_batch_size >= 1,
                concat("per_device_batch_size must be >= 1, got ", options.per_device_batch_size));
  check.require(!options.limit_batches || *options.limit_batches >= 1,
                concat("limit_batches must be >= 1, got ", options.limit_batches.value_or(1),
                       "; leave it out for no limit"));
  if (dataset != nullptr) {
    check.require(static_cast<bool>(*dataset) && dataset->size() > 0,
                  "the dataset is empty; give one with at least one sample");
  }
  const bool sized = dataset != nullptr && *dataset;
  check_loader(check, "loader", options.loader,
               sized ? std::optional(dataset->size()) : std::nullopt,
               options.per_device_batch_size);
  check.throw_if_any();
}

std::optional<std::int64_t> batches_of(const BatchSource& source,
                                       std::optional<std::int64_t> limit) {
  const auto size = source.size();
  return size && limit ? std::min(*size, *limit) : size;
}

// While it lives, the run's evaluation dataset is being read.
class Reading {
 public:
  explicit Reading(TrainerState& state)
      : state_(state), outer_(state.run && std::exchange(state.run->evaluating, true)) {}
  ~Reading() { end(); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  void end() const {
    if (state_.run) state_.run->evaluating = outer_;
  }

 private:
  TrainerState& state_;
  bool outer_;
};

// What an override of create_eval_dataloader gave.
BatchSource& checked(const std::unique_ptr<BatchSource>& source) {
  if (source) return *source;
  throw StateError(
      "create_eval_dataloader returned null; return a loader, such as the Trainer's own");
}

}  // namespace

EvalResult Trainer::evaluate(Dataset dataset, EvalOptions options) {
  return state_->guarded("evaluate", OnError::kKeepRun, [&] {
    std::unique_ptr<BatchSource> source;
    accelerator().together("evaluate", [&] {
      options.limit_batches = limit_of_evaluation(options.limit_batches);
      check_evaluation(options, &dataset);
      source = create_eval_dataloader(
          dataset, default_eval_loader_options(options.loader, options.per_device_batch_size));
      checked(source);
    });
    state_->check_evaluation_ranks(*source, options.limit_batches);
    return evaluate_alone(*source, options);
  });
}

EvalResult Trainer::evaluate(BatchSource& source, EvalOptions options) {
  return state_->guarded("evaluate", OnError::kKeepRun, [&] {
    accelerator().together("evaluate", [&] {
      options.limit_batches = limit_of_evaluation(options.limit_batches);
      check_evaluation(options, nullptr);
    });
    return evaluate_alone(source, options);
  });
}

EvalResult Trainer::evaluate_alone(BatchSource& source, const EvalOptions& options) {
  auto& state = *state_;
  if (state.run) hear_verdicts(Updates::kAll);
  accelerator().together("evaluate", [&] { state.prepare(*this); });
  if (!state.config) state.config = evaluation_config(source, options);
  evaluation_run_start();
  state.notify(*this, &Callback::on_evaluation_run_start,
               EvaluationRunStart{batches_of(source, options.limit_batches)});
  const auto epoch = state.run ? state.progress.epoch : 0;
  const auto result =
      evaluation(source, epoch, {.prefix = "eval_", .limit_batches = options.limit_batches},
                 /*is_intermediate=*/state.run.has_value());
  evaluation_run_end();
  state.notify(*this, &Callback::on_evaluation_run_end, EvaluationRunEnd{result});
  return result;
}

// What can be told of an evaluation before any run.
RunConfig Trainer::evaluation_config(const BatchSource& source, const EvalOptions& options) const {
  RunConfig config;
  const auto batches = batches_of(source, options.limit_batches);
  if (batches) config.eval_rows = source.rows_of(0, *batches);
  config.eval_per_device_batch_size = options.per_device_batch_size;
  config.limit_eval_batches = options.limit_batches;
  config.device = accelerator().device().str();
  config.mixed_precision = to_string(accelerator().mixed_precision());
  config.world_size = accelerator().world_size();
  config.optimizers = "none";
  config.scheduler = "none";
  return config;
}

EvalResult Trainer::evaluate_intermediate(const IntermediateEvalOptions& options) {
  auto& state = *state_;
  auto& run = state.running("evaluate_intermediate");
  if (!run.eval_source) {
    throw StateError("evaluate_intermediate: the run has no eval_dataset; give it one");
  }
  if (run.evaluating) {
    throw StateError(
        "evaluate_intermediate: an evaluation is reading the batches right now; call it from an "
        "event of training, or from on_eval_epoch_end");
  }
  if (options.limit_batches && *options.limit_batches < 1) {
    throw ArgumentError(concat("evaluate_intermediate: limit_batches must be >= 1, got ",
                               *options.limit_batches, "; leave it out for no limit"));
  }
  auto limited = options;
  if (!limited.limit_batches) limited.limit_batches = run_config().limit_eval_batches;
  hear_verdicts(Updates::kAll);
  const auto epoch = state.progress.epoch;
  auto result = evaluation(*run.eval_source, epoch, limited, /*is_intermediate=*/true);
  if (run.in_epoch && !result.metrics.empty()) {
    state.history->append(
        {run.first_epoch + epoch, state.progress.update, result.metrics, /*is_intermediate=*/true});
  } else {
    run.beside.merge(result.metrics);
  }
  return result;
}

// Nothing of it is kept: it is to fail now rather than at the end of the first epoch.
void Trainer::sanity_evaluation() {
  auto& run = *state_->run;
  const auto batches = run_config().sanity_eval_batches;
  if (batches == 0 || !run.eval_source) return;
  evaluation(*run.eval_source, 0, {.prefix = "sanity_eval_", .limit_batches = batches}, true);
}

// What any rank has asked for by the update that has just ended.
void Trainer::take_requests() {
  if (!accelerator().is_triggered(Trigger::kEvaluation)) return;
  hear_verdicts(Updates::kAll);  // which were asked the same in the meantime
  accelerator().take_trigger(Trigger::kEvaluation);
  if (state_->run->eval_source) evaluate_intermediate();
}

void Trainer::evaluate_batch(const Batch& given, EvalResult& result, EpochMeans& means) {
  auto& state = *state_;
  const Batch batch = state.accelerator->to_device(given);
  const BatchInStep in_step(state, batch);
  state.notify(*this, &Callback::on_eval_step_start, EvalStepStart{result.batches, batch});
  const char* outer = std::exchange(state.phase, "calculate_eval_batch_loss");
  const auto rows = batch.rows();
  StepOutput output;
  // A part without rows is another rank's or shard's to evaluate.
  if (!batch.empty() && (rows > 0 || accelerator().world_size() == 1)) {
    output = calculate_eval_batch_loss(batch).detach();
    means.add(output, rows);
    for (const auto& [name, metric, phases] : state.metrics) {
      means.add(name, metric(output.outputs, batch), rows);
    }
  }
  means.next();
  state.phase = outer;
  result.rows += rows;
  state.notify(*this, &Callback::on_eval_step_end, EvalStepEnd{result.batches, batch, output});
  ++result.batches;
}

EvalResult Trainer::evaluation(BatchSource& source, std::int64_t epoch,
                               const IntermediateEvalOptions& options, bool is_intermediate) {
  auto& state = *state_;
  const EvaluationMode mode(state.modules);
  const torch::NoGradGuard no_grad;
  // The run goes on drawing the numbers that it would have drawn without it.
  std::optional<SeedScope> random;
  if (is_intermediate) {
    random.emplace(run_config().seed + static_cast<std::uint64_t>(state.progress.update));
  }
  Reading reading(state);
  source.start_epoch(0);
  eval_epoch_start();
  state.notify(*this, &Callback::on_eval_epoch_start,
               EvalEpochStart{epoch, batches_of(source, options.limit_batches), is_intermediate});

  EvalResult result;
  EpochMeans means;
  means.reset(state.run ? state.shards() : std::nullopt);
  if (!read_all(source, options.limit_batches, result, means)) return {};
  const auto summary = state.summed_up(means, result.rows, 0, options.prefix);
  if (summary.rows == 0 && !accelerator().any(result.batches > 0)) {
    DataError error(
        "evaluate: the source has no batches; check that it starts again in start_epoch()");
    error.set_on_all_ranks();
    throw error;
  }
  result.metrics = summary.metrics;
  result.rows = summary.rows;
  reading.end();
  eval_epoch_end();
  state.notify(*this, &Callback::on_eval_epoch_end,
               EvalEpochEnd{epoch, result.metrics, is_intermediate});
  return result;
}

// Whether no stop cut it short; then it says nothing.
bool Trainer::read_all(BatchSource& source, std::optional<std::int64_t> limit, EvalResult& result,
                       EpochMeans& means) {
  auto& state = *state_;
  BatchCursor cursor(source, limit, /*window=*/1);
  bool more = true;
  while (more) {
    for (auto left = kBatchesBetweenWords; left > 0; --left) {
      const auto batch = cursor.next();
      if (!batch) break;
      evaluate_batch(*batch, result, means);
    }
    more = accelerator().any(cursor.has_more());
    if (more && state.may_cut_evaluation() && state.stops_now()) return false;
  }
  return true;
}

}  // namespace torch_accelerated
