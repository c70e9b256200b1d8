// SPDX-License-Identifier: Apache-2.0
// The loop, from a run down to a micro-batch. How micro-batches become an update stands in
// update.cpp, evaluation in evaluation.cpp, what comes before the first event in run_setup.cpp,
// construction and the steps' defaults in trainer_setup.cpp, a program's own loop in own_loop.cpp.
#include "torch_accelerated/trainer/trainer.h"

#include <torch/torch.h>

#include <algorithm>

#include "accelerator/device.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"
#include "trainer/batch_cursor.h"
#include "trainer/small_step.h"
#include "trainer/trainer_state.h"
#include "trainer/trial_options.h"

namespace torch_accelerated {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

RunResult Trainer::train(Dataset dataset, TrainOptions options) {
  state_->require_idle("train");
  return state_->guarded("train", OnError::kEndRun, [&] {
    std::unique_ptr<BatchSource> source;
    accelerator().together("train", [&] {
      options = with_trial_limits(std::move(options));
      check_run("train", options, dataset ? dataset.size() : 0, *state_);
    });
    open_checkpoint(options);
    accelerator().together("train", [&] { source = train_source(dataset, options); });
    return run(*source, options);
  });
}

RunResult Trainer::train(BatchSource& source, TrainOptions options) {
  state_->require_idle("train");
  return state_->guarded("train", OnError::kEndRun, [&] {
    accelerator().together("train", [&] {
      options = with_trial_limits(std::move(options));
      check_run("train", options, std::nullopt, *state_);
    });
    open_checkpoint(options);
    return run(source, options);
  });
}

RunResult Trainer::run(BatchSource& source, const TrainOptions& options) {
  begin_run(&source, options);
  bool whole = true;
  while (whole && !is_complete()) {
    begin_epoch();
    whole = train_one_epoch();
    if (whole) end_epoch();
    if (state_->stops()) break;
  }
  return end_run();
}

void Trainer::begin_run(BatchSource* source, const TrainOptions& options) {
  auto& state = *state_;
  state.stop.clear();
  accelerator().withdraw_trigger(Trigger::kStop);
  accelerator().withdraw_trigger(Trigger::kEvaluation);
  accelerator().withdraw_trigger(Trigger::kCheckpoint);
  accelerator().exchange_triggers();
  state.progress = {};
  state.run.emplace(Run{.options = options, .source = source});
  state.run->resumption = std::move(state.resumption);
  state.run->checkpoints = std::move(state.checkpoints);
  accelerator().together("train", [&] { state.prepare(*this); });
  set_up_run();
  warn_of_plain_steps();
  training_run_start();
  state.notify(*this, &Callback::on_training_run_start, TrainingRunStart{run_config()});
  for (auto& slot : state.optimizers) slot.note_new_groups();
  if (!resume()) sanity_evaluation();
}

bool Trainer::is_complete() const {
  const auto& config = run_config();
  const auto& progress = state_->progress;
  if (state_->run->resumption) return false;  // the epoch that it stopped in has an end to come
  return progress.epoch >= config.num_epochs ||
         (config.max_updates && progress.update >= *config.max_updates);
}

void Trainer::begin_epoch() {
  auto& run = *state_->run;
  const auto resumption = std::move(run.resumption);
  if (!resumption) ++state_->progress.epoch;
  state_->progress.micro_batch = 0;
  run.in_epoch = true;
  run.place_in_window = 0;
  run.means.reset(state_->shards(), run_config().non_finite == NonFinite::kSkip);
  run.rows = 0;
  run.epoch_began = std::chrono::steady_clock::now();
  reset_peak_device_bytes(accelerator().device());
  if (run.source != nullptr) {
    if (!run_config().accumulation_schedule.empty()) run.source->set_window(state_->window());
    run.source->start_epoch(state_->progress.epoch - 1);
  }
  if (resumption) resumption->give_position(*state_);
  auto batches = run_config().batches_per_epoch;
  if (batches) batches = std::min(*batches, state_->batches_left().value_or(*batches));
  train_epoch_start();
  state_->notify(*this, &Callback::on_train_epoch_start,
                 TrainEpochStart{state_->progress.epoch, batches});
  if (resumption) accelerator().together("train", [&] { resumption->give_observers(*state_); });
}

// Whether the epoch went to its end, and no stop cut it short.
bool Trainer::train_one_epoch() {
  auto& run = *state_->run;
  BatchCursor cursor(*run.source, state_->batches_left(), state_->window(), run.sharing,
                     state_->progress.micro_batch);
  state_->begin_source(cursor);
  while (auto batch = state_->next_batch(cursor)) {
    run.position = cursor.position();
    micro_batch(std::move(*batch));
    if (run.position.is_last && state_->stops() && state_->has_more(cursor)) return false;
  }
  if (state_->progress.micro_batch > 0) return true;
  DataError error(concat("train: epoch ", state_->progress.epoch,
                         " has no batches; check that the source starts again in start_epoch()"));
  error.set_on_all_ranks();
  throw error;
}

StepOutput Trainer::micro_batch(Batch given) {
  auto& state = *state_;
  auto& run = *state.run;
  auto& progress = state.progress;
  const Batch batch = state.accelerator->to_device(std::move(given));
  const BatchInStep in_step(state, batch);
  state.notify(*this, &Callback::on_train_step_start,
               TrainStepStart{progress.epoch, progress.micro_batch, batch});
  const char* outer = std::exchange(state.phase, "train_step");
  state.seed_micro_batch();
  const auto output = training_step(batch);
  record(batch, output);
  state.phase = outer;
  const bool ended = run.position.is_last;
  const bool skipped = ended && run.update_skipped;
  run.place_in_window = ended ? 0 : run.place_in_window + 1;
  ++progress.micro_batch;
  if (ended) end_update();
  state.notify(*this, &Callback::on_train_step_end,
               TrainStepEnd{progress.epoch, progress.micro_batch - 1, batch, output, ended, skipped,
                            progress.update});
  if (ended) {
    take_requests();
    take_checkpoint();
  }
  return output;
}

StepOutput Trainer::training_step(const Batch& batch) {
  auto& run = *state_->run;
  if (!run.small_steps) run.small_steps.emplace(*state_);
  const OneThread one_thread(run.small_steps->has(batch, run.position.rows));
  const auto step = [this](const Batch& given) {
    return is_skipped() ? skip_step(given) : train_step(given).detach();
  };
  if (!accelerator().options().capture_graph) return step(batch);
  return accelerator().captured(this, batch, run.position,
                                !is_skipped() && state_->verdict_may_be_late(), step);
}

void Trainer::record(const Batch& batch, const StepOutput& output) {
  auto& run = *state_->run;
  run.rows += run.position.rows;
  if (is_skipped()) return run.means.next();
  run.means.add(output, run.position.rows);
  for (const auto& [name, metric, phases] : state_->metrics) {
    if (phases == MetricPhases::kEvaluation) continue;
    const torch::NoGradGuard no_grad;
    run.means.add(name, metric(output.outputs, batch), run.position.rows);
  }
  run.means.next();
}

void Trainer::end_update() {
  auto& run = *state_->run;
  const bool reduced = std::exchange(run.reduced, false);
  hear_verdicts(!reduced || is_saving() ? Updates::kAll : Updates::kButTheNewest);
  // Steps that leave the accelerator out reduce nothing that wishes could ride behind.
  if (!reduced) accelerator().exchange_triggers();
  ++state_->progress.update;
  run.means.end_update(!run.update_skipped);
  if (std::exchange(run.update_skipped, false)) ++state_->progress.skipped_updates;
  advance_checkpoints();
}

void Trainer::end_epoch() {
  auto& state = *state_;
  auto& run = *state.run;
  const bool update_ended = close_open_windows();
  hear_verdicts(Updates::kAll);
  run.in_epoch = false;
  const auto summary =
      state.summed_up(run.means, run.rows, seconds_since(run.epoch_began), "train_");
  run.train_metrics = summary.metrics;
  train_epoch_end();
  state.notify(*this, &Callback::on_train_epoch_end,
               TrainEpochEnd{state_->progress.epoch, run.train_metrics, update_ended,
                             state_->progress.update});

  auto row = make_row(summary);
  run.metrics = row.metrics;
  state.history->append(std::move(row));
  state.end_epoch_of_schedulers(*this);
  training_run_epoch_end();
  state.notify(*this, &Callback::on_training_run_epoch_end,
               TrainingRunEpochEnd{state_->progress.epoch, run.metrics});
  accelerator().exchange_triggers();
  advance_checkpoints();
  take_checkpoint();
}

// A source that ended early, or finish(), leaves a window that still makes an update.
bool Trainer::close_open_windows() {
  bool any = false;
  for (const auto& slot : state_->optimizers) {
    const bool is_open = accelerator().has_open_window(*slot.optimizer);
    if (!accelerator().any(is_open)) continue;
    if (!is_open) {
      accelerator().skip_backward(*slot.optimizer, {.rows = 0, .micro_batches = state_->window()});
    }
    complete_update(*slot.optimizer, /*may_be_late=*/false);
    any = true;
  }
  if (any) end_update();
  return any;
}

RunResult Trainer::end_run() {
  auto& state = *state_;
  auto& run = *state.run;
  hear_verdicts(Updates::kAll);
  RunResult result{state_->progress, state.agreed_stop_reason(), run.metrics,
                   seconds_since(run.began)};
  if (result.was_stopped()) {
    state.notify(*this, &Callback::on_stop_training_error, StopTrainingError{result.stop_reason});
    take_checkpoint();
  }
  finish_checkpoints();  // while callbacks still look after the process
  training_run_end();
  state.notify(*this, &Callback::on_training_run_end, TrainingRunEnd{result});
  take_checkpoint();
  finish_checkpoints();
  state.release_run();
  return result;
}

}  // namespace torch_accelerated
