// SPDX-License-Identifier: Apache-2.0
// When a run is saved, and how it is gone on with; what is in a checkpoint stands in run_state.cpp,
// the way back in resumption.cpp.
#include <torch/torch.h>

#include <utility>

#include "base/text.h"
#include "distributed/contract.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/on_checkpoint.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/resumption.h"
#include "trainer/run_checkpoints.h"
#include "trainer/run_state.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

// What the weights of this very update have been found to be worth.
std::optional<double> metric_now(const TrainerState& state) {
  const auto& rows = state.history->rows();
  if (rows.empty() || rows.back().updates != state.progress.update) return std::nullopt;
  return rows.back().metrics.find(state.run->options.checkpoints.metric);
}

}  // namespace

void Trainer::save_checkpoint(Retain retain) {
  auto& state = *state_;
  auto& run = state.running("save_checkpoint");
  checkpoint_directory();
  if (run.save_due != Retain::kForever) run.save_due = retain;
  const bool is_between_steps =
      run.source == nullptr && !state.moves_run && run.place_in_window == 0;
  if (!is_between_steps) return;
  state.guarded("save_checkpoint", OnError::kEndRun, [&] { take_checkpoint(); });
}

void Trainer::request_checkpoint() noexcept { accelerator().set_trigger(Trigger::kCheckpoint); }

bool Trainer::keeps_checkpoints() const noexcept {
  return state_->run.has_value() && state_->run->checkpoints != nullptr;
}

std::filesystem::path Trainer::checkpoint_directory() const {
  if (keeps_checkpoints()) return state_->run->checkpoints->directory();
  throw StateError(
      "save_checkpoint: no run that keeps checkpoints is going on; give "
      "TrainOptions::checkpoints a directory");
}

void Trainer::save_weights(const std::filesystem::path& file) {
  accelerator().together("save_weights", [&] {
    if (accelerator().is_main_process()) {
      torch_accelerated::save_weights(model().module(), file);
    }
  });
}

LoadReport Trainer::load_weights(const std::filesystem::path& file,
                                 const LoadWeightsOptions& options) {
  LoadReport report;
  accelerator().together("load_weights", [&] {
    report = torch_accelerated::load_weights(model().module(), file, options);
  });
  return report;
}

// Before a checkpoint is read, its folder is this job's alone: another one that is still dying
// might be committing, or removing the very one.
void Trainer::open_checkpoint(TrainOptions& options) {
  if (accelerator().world_size() > 1) {  // the first of what ranks do together only where asked
    Contract contract("train");
    contract.add("checkpoints", options.checkpoints.directory.empty() ? "none" : "kept");
    contract.check(accelerator().communicator());
  }
  if (!options.checkpoints.directory.empty()) {
    state_->checkpoints = std::make_unique<RunCheckpoints>(options.checkpoints, accelerator());
  }
  state_->resumption = open_resumption(options, accelerator());
  if (!state_->resumption) return;
  accelerator().together("resume_from", [&] { state_->resumption->fit(options, accelerator()); });
}

void Trainer::check_checkpoints() const {
  if (!keeps_checkpoints()) return;
  const auto& options = state_->run->options.checkpoints;
  accelerator().together("checkpoints", [&] {
    check_can_be_saved(*state_);
    if (options.keep_best > 0) require_metric("checkpoints.metric", options.metric);
  });
}

bool Trainer::resume() {
  auto& resumption = state_->run->resumption;
  if (!resumption) return false;
  accelerator().together("resume_from", [&] {
    resumption->give_optimizers(*state_);
    if (!resumption->in_epoch()) resumption->give_observers(*state_);
  });
  if (!resumption->in_epoch()) resumption.reset();
  return true;
}

// At an update's boundary, when all callbacks have had the event.
void Trainer::take_checkpoint() {
  auto& state = *state_;
  auto& run = *state.run;
  const bool asked = accelerator().is_triggered(Trigger::kCheckpoint);
  if (!asked && !run.save_due) return;
  hear_verdicts(Updates::kAll);
  accelerator().take_trigger(Trigger::kCheckpoint);
  if (!run.checkpoints) return;
  const auto retain = std::exchange(run.save_due, {}).value_or(Retain::kByCount);
  const bool is_there = run.checkpoints->has(state.progress.update, run.in_epoch);
  if (is_there && retain == Retain::kByCount) return;
  const char* outer = std::exchange(state.phase, "save_checkpoint");
  CheckpointContents contents;
  TensorDict of_rank;
  accelerator().together("save_checkpoint", [&] {
    if (accelerator().is_main_process()) contents = run_contents(state);
    of_rank = rank_contents(state);
  });
  run.checkpoints->save({.update = state.progress.update,
                         .in_epoch = run.in_epoch,
                         .metric = metric_now(state),
                         .is_kept = retain == Retain::kForever},
                        contents, of_rank);
  tell_committed();
  state.phase = outer;
}

void Trainer::advance_checkpoints() {
  if (!keeps_checkpoints()) return;
  state_->run->checkpoints->advance();
  tell_committed();
}

bool Trainer::is_saving() const {
  return keeps_checkpoints() && state_->run->checkpoints->is_saving();
}

void Trainer::finish_checkpoints() {
  if (!keeps_checkpoints()) return;
  state_->run->checkpoints->finish();
  tell_committed();
}

void Trainer::tell_committed() {
  for (const auto& [folder, update] : state_->run->checkpoints->take_committed()) {
    callbacks().notify(&OnCheckpoint::on_checkpoint_committed, *this,
                       CheckpointCommitted{folder, update});
  }
}

}  // namespace torch_accelerated
