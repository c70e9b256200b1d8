// SPDX-License-Identifier: Apache-2.0
// What is done in the place of a step without rows, and of an update that must not reach the
// weights.
#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

[[noreturn]] void throw_on_all_ranks(const std::string& what) {
  NumericError error(what);
  error.set_on_all_ranks();
  throw error;
}

}  // namespace

// Whether the micro-batch in progress has no rows: other ranks or shards have them.
bool Trainer::is_skipped() const {
  const auto& position = state_->run->position;
  return position.rows == 0 && (accelerator().world_size() > 1 || position.is_shard);
}

// Layers that exchange statistics need every rank: one without rows goes through them with a row
// of another's, which counts for nothing.
StepOutput Trainer::step_on_borrowed(const Batch& batch) {
  struct Scope {
    Accelerator& accelerator;
    explicit Scope(Accelerator& of) : accelerator(of) { accelerator.set_rows_count(false); }
    ~Scope() { accelerator.set_rows_count(true); }
  } const scope(accelerator());
  train_step(batch);
  return {};
}

// The part of a micro-batch without rows: no forward and no backward, and the same reductions.
StepOutput Trainer::skip_step(const Batch& batch) {
  const auto& run = *state_->run;
  if (run.position.is_borrowed) return step_on_borrowed(batch);
  if (state_->has_sync_batch_norm()) {
    throw StateError(
        "train_step: this rank has no more rows of its own, and SyncBatchNorm needs every rank's; "
        "give all ranks sources of one length, or one dataset with Rows::kShared");
  }
  auto order = run.order;
  if (order.empty() && state_->optimizers.size() == 1) order = {&optimizer()};
  if (order.empty()) {
    throw StateError(
        "train_step: this rank has no rows in the run's first update, so it can't know in which "
        "order the optimizers step; give a batch size of at least one row a rank");
  }
  for (auto* optimizer : order) {
    accelerator().skip_backward(*optimizer, run.position);
    if (run.position.is_last) complete_update(*optimizer, state_->verdict_may_be_late());
  }
  return {};
}

// What a bad update does instead of reaching the weights.
void Trainer::skip_update(torch::optim::Optimizer& optimizer, Gradients gradients) {
  accelerator().discard(optimizer);
  state_->run->update_skipped = true;
  const auto& progress = state_->progress;
  refuse_update({{progress.update, progress.epoch}, gradients, state_->ranks_not_finite()});
}

// Says why an update hasn't reached the weights, or ends the run.
void Trainer::refuse_update(const RefusedUpdate& refused) {
  const auto& [place, gradients, on_ranks] = refused;
  const auto warn = [&](const std::string& line) {
    if (accelerator().is_main_process()) log(LogLevel::kWarning, line);
  };
  const bool is_scaled = accelerator().mixed_precision() == MixedPrecision::kFp16;
  // That is how a scale is found; the history counts them.
  if (gradients == Gradients::kOverflow && is_scaled) return;
  if (gradients == Gradients::kEmpty) {
    warn(concat("update ", place.update, " of epoch ", place.epoch,
                " skipped: all its weights are 0"));
    return;
  }
  const auto what =
      concat(gradients == Gradients::kReady      ? "the norm of the gradients"
             : gradients == Gradients::kOverflow ? "a gradient that was compressed to fp16"
                                                 : "the loss",
             " is not finite", on_ranks, " at update ", place.update, " of epoch ", place.epoch);
  switch (run_config().non_finite) {
    case NonFinite::kThrow:
      throw_on_all_ranks(what +
                         "; no weight has changed by it. Lower the learning rate, clip gradients, "
                         "check the data, or set non_finite to NonFinite::kSkip");
    case NonFinite::kStop:
      request_stop(what);
      state_->run->stops = true;  // on all ranks, as it was decided by what they have in common
      return;
    case NonFinite::kSkip:
      warn(what + ": skipped");
      return;
  }
}

}  // namespace torch_accelerated
