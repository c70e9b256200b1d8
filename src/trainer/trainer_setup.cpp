// SPDX-License-Identifier: Apache-2.0
// Construction, registration, what can be asked of a Trainer, and the defaults of its steps.
#include <torch/torch.h>

#include "accelerator/zero_grad.h"
#include "torch_accelerated/base/error.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {

Trainer::Trainer(Model model, LossFunction loss_function, torch::optim::Optimizer& optimizer,
                 CallbackList callbacks, Accelerator* accelerator)
    : state_(std::make_unique<TrainerState>(std::move(model), std::move(loss_function), optimizer,
                                            std::move(callbacks), accelerator)) {}

Trainer::~Trainer() {
  // A run that was started and not finished must not leave its windows with the accelerator.
  state_->abandon_run();
}

void Trainer::register_module(std::string name, Model module) {
  state_->require_idle("register_module");
  for (const auto& [known, model] : state_->modules) {
    if (known != name) continue;
    throw ArgumentError("register_module: the name '" + name +
                        "' is taken; give each companion a name of its own, not empty");
  }
  state_->modules.emplace_back(std::move(name), std::move(module));
}

void Trainer::add_optimizer(std::string name, torch::optim::Optimizer& optimizer) {
  state_->require_idle("add_optimizer");
  for (const auto& slot : state_->optimizers) {
    if (slot.name != name && slot.optimizer != &optimizer) continue;
    throw ArgumentError("add_optimizer: '" + name +
                        "', or the optimizer itself, is there already; add each once");
  }
  state_->optimizers.push_back({std::move(name), &optimizer});
}

void Trainer::add_metric(std::string name, Metric metric, MetricPhases phases) {
  state_->require_idle("add_metric");
  for (const auto& slot : state_->metrics) {
    if (slot.name != name && name != "loss") continue;
    throw ArgumentError("add_metric: the name '" + name + "' is taken; give each its own");
  }
  state_->metrics.push_back({std::move(name), std::move(metric), phases});
}

void Trainer::request_stop(std::string reason) {
  state_->stop.make(std::move(reason));
  accelerator().set_trigger(Trigger::kStop);
}

void Trainer::request_evaluation() noexcept { accelerator().set_trigger(Trigger::kEvaluation); }

bool Trainer::stop_requested() const noexcept { return state_->stop.made(); }

Progress Trainer::progress() const { return state_->progress; }

const Model& Trainer::model() const noexcept { return state_->model; }

const LossFunction& Trainer::loss_function() const noexcept { return state_->loss_function; }

torch::optim::Optimizer& Trainer::optimizer() const noexcept {
  return *state_->optimizers.front().optimizer;
}

Accelerator& Trainer::accelerator() const noexcept { return *state_->accelerator; }

CallbackList& Trainer::callbacks() noexcept { return state_->callbacks; }

const History& Trainer::history() const noexcept { return *state_->history; }

std::unique_ptr<History> Trainer::use_history(std::unique_ptr<History> history) {
  state_->require_idle("use_history");
  if (!history) {
    throw ArgumentError("use_history: it is null; give one, such as InMemoryHistory");
  }
  return std::exchange(state_->history, std::move(history));
}

const RunConfig& Trainer::run_config() const {
  if (state_->config) return *state_->config;
  throw StateError("run_config: no run has been started yet; call train() or start() before");
}

void Trainer::print(std::string_view line) const { accelerator().print(line); }

void Trainer::training_run_start() {
  for (const auto& [name, model] : state_->modules) model.module().train();
}

StepOutput Trainer::train_step(const Batch& batch) {
  auto output = calculate_train_batch_loss(batch);
  optimize(output.loss, optimizer());
  return output;
}

StepOutput Trainer::calculate_train_batch_loss(const Batch& batch) {
  return state_->batch_loss(batch);
}

StepOutput Trainer::calculate_eval_batch_loss(const Batch& batch) {
  return state_->batch_loss(batch);
}

void Trainer::backward_step(const Mean& loss, torch::optim::Optimizer& optimizer) {
  const auto& run = *state_->run;
  accelerator().backward(loss, optimizer, run.position, run.only_own_parameters);
}

torch::Tensor Trainer::clip_gradients(torch::optim::Optimizer& optimizer) {
  const auto& config = run_config();
  torch::Tensor norm;
  if (config.clip_gradient_norm) {
    norm = accelerator().clip_gradient_norm(optimizer, *config.clip_gradient_norm);
  }
  if (!norm.defined() && config.track_gradient_norm) {
    norm = accelerator().gradient_norm(optimizer);
  }
  if (config.clip_gradient_value) {
    accelerator().clip_gradient_value(optimizer, *config.clip_gradient_value);
  }
  return norm;
}

void Trainer::optimizer_step(torch::optim::Optimizer& optimizer) { accelerator().step(optimizer); }

void Trainer::scheduler_step(torch::optim::Optimizer& optimizer) {
  if (auto& scheduler = state_->slot_of(optimizer).scheduler) scheduler->step();
}

void Trainer::optimizer_zero_grad(torch::optim::Optimizer& optimizer) { zero_grad(optimizer); }

}  // namespace torch_accelerated
