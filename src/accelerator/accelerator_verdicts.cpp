// SPDX-License-Identifier: Apache-2.0
// How a window becomes a step, or none: at once where the host waits for the verdict, else by a
// flag on the device, and heard of later.
#include <torch/torch.h>

#include <cmath>
#include <tuple>
#include <utility>

#include "accelerator/optimizer_tensors.h"
#include "accelerator/reduction.h"
#include "core/host_scalar.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

// What the host will hear: the window's word, and whether its step was suppressed.
torch::Tensor Accelerator::word_of(const Slot& slot) {
  const torch::NoGradGuard no_grad;
  return torch::cat({slot.word, slot.suppressed.to(torch::kFloat64).reshape({1})});
}

Gradients Accelerator::reduce_gradients(torch::optim::Optimizer& optimizer, bool may_be_late) {
  auto& slot = slot_of(optimizer);
  if (slot.outcome) return *slot.outcome;
  if (may_be_late && can_be_late(slot)) return reduce_late(slot, optimizer);
  if (is_recording_) throw StateError("the host waits for what this update's gradients add up to");
  // Gradients that came about elsewhere are taken as they are; over ranks they are averaged.
  if (!slot.window.is_open() && world_size() > 1) begin_foreign_window(slot, optimizer);
  const bool is_open = slot.window.is_open();
  auto sums = is_open ? slot.window.sums() : WindowSums();
  RankStatus status;
  status.triggers = reduction_->triggers.load();
  status.not_finite = !std::isfinite(sums.loss) || !std::isfinite(sums.weight);
  status.has_gradient = slot.window.has_backward();
  if (slot.reducer) {
    auto outcome = slot.reducer->reduce(sums, status);
    sums = outcome.sums;
    reduction_->ranks = std::move(outcome.ranks);
    end_first_update();
  } else {
    reduction_->ranks.assign(1, status);
  }
  auto outcome = is_open ? slot.window.close(sums, optimizer) : Gradients::kReady;
  const bool is_scaled = slot.scaler && is_open && !slot.window.is_foreign();
  if (outcome == Gradients::kReady && is_scaled &&
      !slot.scaler->unscale(gradient_values(optimizer))) {
    outcome = Gradients::kOverflow;
  }
  const bool may_overflow =
      slot.reducer && !slot.scaler && options_.gradient_compression == GradientCompression::kFp16;
  if (outcome == Gradients::kReady && may_overflow && !are_finite(gradient_values(optimizer))) {
    outcome = Gradients::kOverflow;
  }
  slot.outcome = outcome;
  return outcome;
}

void Accelerator::begin_foreign_window(Slot& slot, torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> gradients;
  const auto parameters = parameters_of(optimizer);
  for (const auto& parameter : parameters) {
    const auto& gradient = parameter.grad();
    // A copy: it may be a view of the bucket that is about to be zeroed.
    gradients.push_back(gradient.defined() ? gradient.clone() : gradient);
  }
  begin_window(slot, optimizer, /*is_shard=*/false);
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i];
  slot.window.take_as_one();
}

bool Accelerator::can_be_late(const Slot& slot) const noexcept {
  const bool wanted =
      options_.verdicts == Verdicts::kLate ||
      (options_.verdicts == Verdicts::kAuto && (!device_.is_cpu() || options_.capture_graph));
  // The first update agrees on what later ones go by, and shows how the optimizer is stepped.
  if (!wanted || !slot.steps_by_flag || !slot.window.is_open() || slot.window.is_foreign()) {
    return false;
  }
  if (slot.scaler || slot.window.has_shards()) return false;
  if (world_size() == 1) return true;
  return slot.reducer && !options_.share_devices &&
         options_.gradient_compression != GradientCompression::kFp16 &&
         options_.unused_parameters != UnusedParameters::kError;
}

Gradients Accelerator::reduce_late(Slot& slot, const torch::optim::Optimizer& optimizer) {
  const torch::NoGradGuard no_grad;
  slot.word = slot.window.sums_on(device_);
  const auto status = status_on_device(slot);
  if (slot.reducer) {
    std::tie(slot.word, slot.word_reduction) = slot.reducer->reduce_late(slot.word, status);
    slot.window.close(slot.word, optimizer);
  } else {
    slot.window.close(slot.word, optimizer);
    slot.word = torch::cat({slot.word, status.reshape({1})});
  }
  // 0 where both are finite, else NaN, which is less than nothing: both have to be, and the weight
  // above 0, told by few operations.
  const auto sums = slot.word.narrow(0, 0, 2);
  const auto is_good = (sums * 0).sum() < sums[1];
  slot.suppressed = is_good.logical_not().to(torch::kFloat32);
  slot.outcome = Gradients::kUndecided;
  return Gradients::kUndecided;
}

// This rank's status as the reducers pack it, (), float64.
torch::Tensor Accelerator::status_on_device(const Slot& slot) {
  const auto packed = [this, has_gradient = slot.window.has_backward()] {
    RankStatus status;
    status.triggers = reduction_->triggers.load();
    status.has_gradient = has_gradient;
    return GradientReducer::packed(status);
  };
  if (is_recording_) return reduction_->graphs->numbers().add(packed);
  return torch::full({}, packed(), slot.word.options());
}

void Accelerator::require_finite(const torch::optim::Optimizer& optimizer,
                                 const torch::Tensor& norm) {
  auto& slot = slot_of(optimizer);
  if (!slot.suppressed.defined()) return;
  slot.suppressed = slot.suppressed.maximum(torch::isfinite(norm).logical_not());
}

bool Accelerator::step(torch::optim::Optimizer& optimizer) {
  const auto gradients = reduce_gradients(optimizer);
  auto& slot = slot_of(optimizer);
  if (gradients == Gradients::kUndecided) return step_undecided(slot, optimizer);
  const bool ready = gradients == Gradients::kReady;
  if (ready) {
    slot.steps_by_flag = slot.fused_step && slot.fused_step->take({});
    if (!slot.steps_by_flag) optimizer.step();
  }
  slot.reopen();
  return ready;
}

bool Accelerator::step_undecided(Slot& slot, torch::optim::Optimizer& optimizer) {
  if (is_recording_) return record_step(slot, optimizer);
  slot.steps_by_flag = slot.fused_step->take(slot.suppressed);
  // Its own step knows no flag.
  if (!slot.steps_by_flag && host_scalar(slot.suppressed) == 0) optimizer.step();
  send_verdict(slot, optimizer);
  slot.reopen();
  return true;
}

bool Accelerator::record_step(Slot& slot, torch::optim::Optimizer& optimizer) {
  leave_to_replay(slot.fused_step->record(slot.suppressed, reduction_->graphs->numbers()));
  leave_to_replay([this, &slot, &optimizer, word = word_of(slot)] {
    // Recorded reductions can't be waited for, but one of nothing, which ends after them.
    auto reduction = slot.reducer ? world_.gradients->start_all_reduce({}) : nullptr;
    reduction_->late.push_back(
        {&optimizer, /*by_flag=*/true, WordCopy(word, std::move(reduction))});
    slot.reopen();
  });
  slot.reopen();
  return true;
}

void Accelerator::send_verdict(Slot& slot, const torch::optim::Optimizer& optimizer) {
  reduction_->late.push_back(
      {&optimizer, slot.steps_by_flag, WordCopy(word_of(slot), std::move(slot.word_reduction))});
}

Verdict Accelerator::take_verdict() {
  auto& late = reduction_->late;
  if (late.empty()) {
    throw StateError(
        "take_verdict: none is late; take one for each reduce_gradients() that gave "
        "Gradients::kUndecided, after its step");
  }
  auto oldest = std::move(late.front());
  late.pop_front();
  const auto word = oldest.word.read();
  auto [sums, ranks] = GradientReducer::read_word(word, world_size());
  reduction_->ranks = std::move(ranks);
  const bool suppressed = word.back() != 0;
  if (oldest.by_flag) slot_of(*oldest.optimizer).fused_step->hear(suppressed);
  return {oldest.optimizer, GradientWindow::verdict(sums), !suppressed, GradientWindow::mean(sums)};
}

void Accelerator::end_window(const torch::optim::Optimizer& optimizer) {
  const auto found = reduction_->slots.find(&optimizer);
  if (found == reduction_->slots.end()) return;
  auto& slot = found->second;
  if (slot.suppressed.defined() && is_recording_) {
    throw StateError("an optimizer that is stepped by other code than the accelerator's");
  }
  if (slot.suppressed.defined()) {
    slot.steps_by_flag = false;  // it stepped by itself, or not at all: no flag is left to it again
    send_verdict(slot, optimizer);
  }
  slot.reopen();
}

}  // namespace torch_accelerated
