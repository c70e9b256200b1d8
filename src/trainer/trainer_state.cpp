// SPDX-License-Identifier: Apache-2.0
#include "trainer/trainer_state.h"

#include <algorithm>
#include <exception>
#include <new>

#include "base/text.h"
#include "schedulers/momentum.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

TrainerState::TrainerState(Model model_, LossFunction loss_function_,
                           torch::optim::Optimizer& optimizer, CallbackList callbacks_,
                           Accelerator* given)
    : model(std::move(model_)),
      loss_function(std::move(loss_function_)),
      callbacks(std::move(callbacks_)),
      own_accelerator(given == nullptr ? std::make_unique<Accelerator>() : nullptr),
      accelerator(given == nullptr ? own_accelerator.get() : given) {
  modules.emplace_back("", model);
  optimizers.push_back({"optimizer", &optimizer});
}

Run& TrainerState::running(const char* call) {
  if (run) return *run;
  throw StateError(concat(call, ": no run is going on; call start() or train() before"));
}

Run& TrainerState::own_loop(const char* call) {
  auto& own = running(call);
  if (own.source == nullptr && moves_run) {
    throw StateError(concat(call,
                            ": called from a step or a callback of the run itself; call it "
                            "when that has returned"));
  }
  if (own.source == nullptr) return own;
  throw StateError(concat(call,
                          ": train() owns the loop of this run; use start(), step() and finish() "
                          "for a loop of your own, request_stop() to end this one"));
}

OptimizerSlot& TrainerState::slot_of(const torch::optim::Optimizer& optimizer) {
  for (auto& slot : optimizers) {
    if (slot.optimizer == &optimizer) return slot;
  }
  throw ArgumentError(
      "optimize: the optimizer is not known to the Trainer; add it with add_optimizer() before the "
      "run");
}

void TrainerState::require_idle(const char* call) const {
  if (!run) return;
  throw StateError(concat(call,
                          ": a run is going on; call it before train() or start(), or after "
                          "finish()"));
}

std::int64_t TrainerState::window() const {
  return config->deterministic_shards > 0 ? config->micro_batches_per_update
                                          : config->accumulation_steps(progress.epoch);
}

std::optional<std::int64_t> TrainerState::batches_left() const {
  auto left = config->limit_train_batches;
  if (left && config->deterministic_shards > 0) left = product(*left, window());
  if (config->max_updates) {
    const auto micro_batches =
        product(*config->max_updates - progress.update, window()) + progress.micro_batch;
    left = std::min(left.value_or(micro_batches), micro_batches);
  }
  return left;
}

StepOutput TrainerState::batch_loss(const Batch& of) const {
  const auto autocast = accelerator->autocast();
  StepOutput output;
  output.outputs = model(of);
  output.loss = loss_function(output.outputs, of);
  return output;
}

void TrainerState::prepare(Trainer& trainer) {
  for (const auto& [name, module] : modules) accelerator->prepare(module.module(), name);
  for (auto& slot : optimizers) accelerator->prepare(*slot.optimizer);
  if (std::exchange(initialised, true)) return;
  notify(trainer, &Callback::on_init_end, InitEnd{});
}

void TrainerState::end_epoch_of_schedulers(const Trainer& trainer) {
  const auto newest = [this](std::string_view name) -> std::optional<double> {
    const auto& rows = history->rows();
    for (auto row = rows.rbegin(); row != rows.rend() && row->epoch == rows.back().epoch; ++row) {
      if (const auto value = row->metrics.find(name)) return value;
    }
    return std::nullopt;
  };
  // A stop may have cut an evaluation short, and what is announced may come in a later epoch.
  const auto may_lack = [&](const std::string& name) {
    const auto names = trainer.metric_names();
    return stops() || std::find(names.begin(), names.end(), name) != names.end();
  };
  for (auto& slot : optimizers) {
    if (!slot.scheduler) continue;
    const auto watched = slot.scheduler->watched_metric();
    if (!watched.empty() && !newest(watched) && may_lack(watched)) continue;
    try {
      slot.scheduler->end_epoch(newest);
    } catch (Error& error) {
      error.set_on_all_ranks();  // they have the same metrics
      throw;
    }
  }
}

void TrainerState::release_run() noexcept {
  for (auto& slot : optimizers) {
    accelerator->release(*slot.optimizer);
    slot.scheduler.reset();
    auto& groups = slot.optimizer->param_groups();
    for (std::size_t i = 0; i < slot.rates_before_run.size() && i < groups.size(); ++i) {
      groups[i].options().set_lr(slot.rates_before_run[i]);
      if (const auto momentum = slot.momenta_before_run[i]) {
        set_momentum(groups[i].options(), *momentum);
      }
    }
    slot.rates_before_run.clear();
  }
  run.reset();
}

void TrainerState::abandon_run() noexcept {
  resumption.reset();
  checkpoints.reset();
  if (!run) return;
  // Half a window's gradients would leak into the next run.
  for (auto& slot : optimizers) slot.optimizer->zero_grad();
  release_run();
}

std::string TrainerState::place() const {
  if (!run) return {};
  return concat(" at epoch ", progress.epoch, ", update ", progress.update);
}

std::string TrainerState::context(const std::string& what) const {
  std::string text = concat(phase, " failed", place(), ": ", what);
  if (accelerator->mixed_precision() == MixedPrecision::kFp16 && what.find("Half") != what.npos) {
    text += concat("; mixed_precision is fp16, which not every operation has on ",
                   accelerator->device(),
                   ": give it .to(torch::kFloat32), or use "
                   "MixedPrecision::kBf16");
  }
  // Shapes and dtypes explain most failures of a first step, and few of later ones.
  if (!failed_batch.empty() && (!run || progress.update == 0)) {
    text += "; the batch has " + failed_batch;
    const auto parameters = model.module().parameters();
    if (!parameters.empty()) {
      text += concat("; the model's first parameter is ", parameters.front().dtype(), " on ",
                     parameters.front().device());
    }
  }
  return text;
}

void TrainerState::rethrow_with_context(OnError on_error) {
  // Made before the run is abandoned, as it tells where the run was.
  const auto wrapped = [this](const std::string& what, ExitCode code = ExitCode::kUserCode) {
    UserCodeError error(context(what), code);
    leave(error, error.what());
    return error;
  };
  const auto abandon = [&] {
    failed_batch.clear();
    if (on_error == OnError::kEndRun) abandon_run();
  };
  try {
    throw;
  } catch (Error& error) {
    leave(error, concat(phase, place(), ": ", error.what()));
    abandon();
    throw;
  } catch (const c10::OutOfMemoryError& error) {
    auto typed = wrapped(error.what_without_backtrace(), ExitCode::kOutOfMemory);
    abandon();
    std::throw_with_nested(typed);
  } catch (const c10::Error& error) {
    auto typed = wrapped(error.what_without_backtrace());
    abandon();
    std::throw_with_nested(typed);
  } catch (const std::bad_alloc& error) {
    auto typed = wrapped(error.what(), ExitCode::kOutOfMemory);
    abandon();
    std::throw_with_nested(typed);
  } catch (const std::exception& error) {
    auto typed = wrapped(error.what());
    abandon();
    std::throw_with_nested(typed);
  } catch (...) {
    auto typed = wrapped("an object that is no std::exception was thrown");
    abandon();
    std::throw_with_nested(typed);
  }
}

// An error of this rank alone: the others would wait for it for ever.
void TrainerState::leave(Error& error, const std::string& line) noexcept {
  if (accelerator->world_size() == 1) return;
  error.set_rank(accelerator->rank());
  if (!error.is_on_all_ranks()) accelerator->abort(line, error.exit_code());
}

}  // namespace torch_accelerated
