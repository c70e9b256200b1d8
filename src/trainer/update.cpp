// SPDX-License-Identifier: Apache-2.0
// How a loss becomes gradients, and at a window's end an update. What is left to `on_host` happens
// at each replay, where the step is one that is captured.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "torch_accelerated/trainer/trainer.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {

void Trainer::optimize(const Mean& loss, torch::optim::Optimizer& optimizer) {
  auto& run = state_->running("optimize");
  state_->slot_of(optimizer);
  if (std::find(run.order.begin(), run.order.end(), &optimizer) == run.order.end()) {
    run.order.push_back(&optimizer);
  }
  backward_step(loss, optimizer);
  if (run.position.is_last) complete_update(optimizer, state_->verdict_may_be_late());
}

void Trainer::complete_update(torch::optim::Optimizer& optimizer, bool may_be_late) {
  const auto gradients = accelerator().reduce_gradients(optimizer, may_be_late);
  accelerator().on_host([this, &optimizer, gradients] { note_update(optimizer, gradients); });
  const bool seems_ready = gradients == Gradients::kReady || gradients == Gradients::kUndecided;
  const auto norm = seems_ready ? clip_gradients(optimizer) : torch::Tensor();
  if (!is_usable(optimizer, gradients, norm)) return skip_update(optimizer, gradients);
  optimizer_step(optimizer);
  accelerator().end_window(optimizer);
  accelerator().on_host([this, &optimizer] { scheduler_step(optimizer); });
  optimizer_zero_grad(optimizer);
}

void Trainer::note_update(const torch::optim::Optimizer& optimizer, Gradients gradients) {
  auto& run = *state_->run;
  run.reduced = true;
  if (gradients == Gradients::kUndecided) {
    run.undecided.push_back({state_->progress.update, state_->progress.epoch});
  }
  auto& slot = state_->slot_of(optimizer);
  slot.note_new_groups();
  slot.note_rates();
  if (&optimizer != state_->optimizers.front().optimizer) return;
  auto& progress = state_->progress;
  if (gradients != Gradients::kUndecided) progress.loss = accelerator().window_loss(optimizer);
  progress.learning_rate = optimizer.param_groups().front().options().get_lr();
}

bool Trainer::is_usable(const torch::optim::Optimizer& optimizer, Gradients gradients,
                        const torch::Tensor& norm) {
  const bool is_undecided = gradients == Gradients::kUndecided;
  if (gradients != Gradients::kReady && !is_undecided) return false;
  if (!norm.defined()) return true;
  if (is_undecided) accelerator().require_finite(optimizer, norm);
  if (!is_undecided && !std::isfinite(norm.item<double>())) return false;
  if (!accelerator().is_main_process()) return true;
  accelerator().on_host([this, norm] { state_->run->means.add("gradient_norm", Mean(norm), 1); });
  return true;
}

}  // namespace torch_accelerated
