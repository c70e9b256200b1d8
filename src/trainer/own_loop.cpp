// SPDX-License-Identifier: Apache-2.0
// The parts of which train() is made, for a program that owns its loop.
#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/trainer_state.h"
#include "trainer/trial_options.h"

namespace torch_accelerated {

void Trainer::start(TrainOptions options) {
  state_->require_idle("start");
  state_->guarded("start", OnError::kEndRun, [&] {
    accelerator().together("start", [&] {
      check_run("start", options, std::nullopt, *state_);
      options.limit_eval_batches = limit_of_evaluation(options.limit_eval_batches);
    });
    open_checkpoint(options);
    begin_run(nullptr, options);
    if (!is_complete()) begin_epoch();
  });
}

StepOutput Trainer::step(const Batch& batch) {
  auto& run = state_->own_loop("step");
  if (!run.in_epoch) {
    throw StateError(
        "step: the run that was resumed had come to its end; call finish(), or begin another");
  }
  if (run_config().max_updates && progress().update >= *run_config().max_updates) {
    throw StateError(concat("step: the run has made its max_updates of ", *run_config().max_updates,
                            "; call finish()"));
  }
  return state_->guarded("step", OnError::kEndRun, [&] {
    const auto window = state_->window();
    run.position = {.rows = batch.rows(),
                    .window_rows = window == 1 && accelerator().world_size() == 1
                                       ? std::optional(batch.rows())
                                       : std::nullopt,
                    .micro_batches = window,
                    .is_last = (progress().micro_batch + 1) % window == 0};
    return micro_batch(batch);
  });
}

RunResult Trainer::finish() {
  state_->own_loop("finish");
  return state_->guarded("finish", OnError::kEndRun, [&] {
    if (state_->run->in_epoch) end_epoch();
    return end_run();
  });
}

}  // namespace torch_accelerated
