// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/save_best_model.h"

#include <torch/torch.h>

#include <utility>

#include "base/text.h"
#include "callbacks/setting.h"
#include "core/named_tensors.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kSaveBestModel = "SaveBestModel";

}  // namespace

SaveBestModel::SaveBestModel(SaveBestModelOptions options)
    : options_(std::move(options)),
      watch_({.metric = options_.metric, .direction = options_.direction}) {
  OptionCheck check(kSaveBestModel);
  watch_.check(check);
  check.throw_if_any();
}

std::string SaveBestModel::settings() const {
  return concat("metric ", options_.metric, ", direction ", setting(options_.direction),
                ", reload_at_end ", setting(options_.reload_at_end), ", reset_on_train ",
                setting(options_.reset_on_train));
}

void SaveBestModel::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  watch_.require(trainer, kSaveBestModel);
  if (!std::exchange(loaded_, false) && options_.reset_on_train) {
    watch_.reset();
    best_weights_ = {};
  }
  if (best_weights_.empty()) return;
  trainer.accelerator().together(kSaveBestModel, [&] {
    fitted(best_weights_, named_tensors(trainer.model().module()), kSaveBestModel);
  });
}

void SaveBestModel::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd&) {
  const auto found = watch_.read(trainer, kSaveBestModel);
  if (!found || !watch_.improves(*found)) return;
  best_weights_ = copied(named_tensors(trainer.model().module()), c10::kCPU);
}

void SaveBestModel::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  loaded_ = false;
  if (!options_.reload_at_end || best_weights_.empty()) return;
  copy_into(best_weights_, named_tensors(trainer.model().module()), kSaveBestModel);
}

State SaveBestModel::state() const {
  State state;
  state.set_part("watch", watch_.state());
  // Never written to again: the next best is a new copy.
  for (const auto& [name, tensor] : best_weights_) state.set_tensor("best/" + name, tensor);
  return state;
}

void SaveBestModel::load_state(const State& state) {
  watch_.load_state(state.part("watch"));
  best_weights_ = copied(state.part("best").tensors(), c10::kCPU);
  loaded_ = true;
}

}  // namespace torch_accelerated
