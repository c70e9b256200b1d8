// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/model_ema.h"

#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "callbacks/evaluation_names.h"
#include "callbacks/setting.h"
#include "core/named_tensors.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kModelEma = "ModelEma";

}  // namespace

double ema_decay(std::int64_t step, const ModelEmaOptions& options) noexcept {
  if (!options.warmup) return options.decay;
  const auto count = static_cast<double>(step);
  return std::min(options.decay, (1 + count) / (10 + count));
}

ModelEma::ModelEma(ModelEmaOptions options)
    : options_(std::move(options)),
      watch_({.metric = options_.keep_best.value_or("none"), .direction = options_.direction}) {
  OptionCheck check(kModelEma);
  check.require(options_.decay >= 0 && options_.decay <= 1,
                concat("decay must be in [0, 1], got ", options_.decay,
                       "; the nearer to 1, the longer it remembers, such as 0.9999"));
  check.require(options_.every_updates >= 1,
                concat("every_updates must be >= 1, got ", options_.every_updates));
  check_prefix(check, options_.prefix);
  watch_.check(check);
  check.throw_if_any();
}

void ModelEma::copy_to(torch::nn::Module& module) const {
  const auto& kept = best_averages_.empty() ? averages_ : best_averages_;
  if (kept.empty()) {
    throw StateError(concat(kModelEma, ": there is no average yet; it begins with a training run"));
  }
  copy_into(kept, named_tensors(module), kModelEma);
}

std::string ModelEma::settings() const {
  return concat("decay ", setting(options_.decay), ", warmup ", setting(options_.warmup),
                ", every_updates ", options_.every_updates, ", evaluate ",
                setting(options_.evaluate), ", prefix ", options_.prefix, ", keep_best ",
                setting(options_.keep_best), ", direction ", setting(options_.direction),
                ", replace_at_end ", setting(options_.replace_at_end));
}

std::vector<std::string> ModelEma::metric_names(const Trainer& trainer) const {
  if (!options_.evaluate) return {};
  return evaluation_names(trainer, options_.prefix);
}

void ModelEma::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  if (options_.keep_best) watch_.require(trainer, kModelEma);
  model_ = named_tensors(trainer.model().module());
  updates_ = trainer.progress().update - trainer.progress().skipped_updates;
  if (std::exchange(loaded_, false)) {
    trainer.accelerator().together(kModelEma, [&] {
      const auto given = fitted(averages_, model_, kModelEma);
      averages_ = copied_for_sums(model_);
      copy_into(given, averages_, kModelEma);
    });
    return;
  }
  averages_ = copied_for_sums(model_);
  best_averages_ = {};
  watch_.reset();
  steps_ = 0;
}

void ModelEma::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  if (event.update_ended) follow(trainer);
}

// A window that was open at the epoch's end has made an update since the last step.
void ModelEma::on_train_epoch_end(Trainer& trainer, const TrainEpochEnd&) { follow(trainer); }

void ModelEma::follow(const Trainer& trainer) {
  const auto progress = trainer.progress();
  const auto updates = progress.update - progress.skipped_updates;
  if (updates == std::exchange(updates_, updates)) return;
  if (updates % options_.every_updates != 0) return;
  move_towards(model_, 1 - ema_decay(steps_, options_), averages_);
  ++steps_;
}

void ModelEma::on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) {
  const bool is_alone = event.epoch == 0;
  if (!options_.evaluate || event.is_intermediate || is_alone) return;
  const SwappedTensors scope(averages_, model_);
  trainer.evaluate_intermediate({.prefix = options_.prefix});
}

void ModelEma::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd&) {
  if (!options_.keep_best) return;
  const auto found = watch_.read(trainer, kModelEma);
  if (found && watch_.improves(*found)) best_averages_ = copied(averages_, c10::kCPU);
}

void ModelEma::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  loaded_ = false;
  if (options_.replace_at_end) copy_to(trainer.model().module());
}

State ModelEma::state() const {
  State state;
  state.set("updates", updates_).set("steps", steps_).set_part("watch", watch_.state());
  for (const auto& [name, tensor] : copied(averages_)) state.set_tensor("average/" + name, tensor);
  // Never written to again: the next best is a new copy.
  for (const auto& [name, tensor] : best_averages_) state.set_tensor("best/" + name, tensor);
  return state;
}

void ModelEma::load_state(const State& state) {
  const auto updates = state.get<std::int64_t>("updates");
  const auto steps = state.get<std::int64_t>("steps");
  auto averages = copied(state.part("average").tensors());
  auto best = copied(state.part("best").tensors(), c10::kCPU);
  const bool has_begun = !model_.empty();
  const bool is_fresh = averages.empty();  // from before a first run: the next one begins anew
  if (has_begun && !is_fresh) averages = fitted(averages, model_, kModelEma);
  watch_.load_state(state.part("watch"));
  if (has_begun) {
    averages_ = copied_for_sums(model_);
    if (!is_fresh) copy_into(averages, averages_, kModelEma);
  } else {
    averages_ = std::move(averages);
  }
  best_averages_ = std::move(best);
  updates_ = updates;
  steps_ = steps;
  loaded_ = !is_fresh;
}

}  // namespace torch_accelerated
