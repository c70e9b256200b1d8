// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/wsd_checkpoint.h"

#include <cstdio>

#include "base/text.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kWSDCheckpoint = "WSDCheckpoint";

[[noreturn]] void refuse(const std::string& why) {
  ArgumentError error(concat(kWSDCheckpoint, ": ", why));
  error.set_on_all_ranks();  // they have the same run
  throw error;
}

}  // namespace

WSDCheckpoint::WSDCheckpoint(WsdOptions schedule) : schedule_(schedule) {}

std::string WSDCheckpoint::settings() const {
  return concat("decay_updates ", setting(schedule_.decay_updates), ", total_updates ",
                setting(schedule_.total_updates));
}

void WSDCheckpoint::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  if (!trainer.keeps_checkpoints()) {
    refuse("the run keeps no checkpoints; give TrainOptions::checkpoints a directory");
  }
  auto whole = schedule_;
  if (!whole.total_updates) whole.total_updates = trainer.run_config().total_updates;
  if (!whole.total_updates) {
    refuse("the run's length isn't known; give WsdOptions::total_updates");
  }
  decay_end_ = *whole.total_updates;
  decay_begin_ = wsd_decay_begin(whole);
  if (decay_begin_ >= decay_end_ || decay_begin_ < 1) {
    refuse(concat("the decay would begin after ", decay_begin_, " of ", decay_end_,
                  " updates; give the options that wsd() has, with decay_updates in between"));
  }
}

void WSDCheckpoint::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void WSDCheckpoint::on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void WSDCheckpoint::after_update(Trainer& trainer, std::int64_t updates) const {
  if (updates == decay_begin_) trainer.save_checkpoint(Retain::kForever);
}

void WSDCheckpoint::on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) {
  const auto updates = event.result.progress.update;
  if (updates < decay_end_) return;
  char name[64];
  std::snprintf(name, sizeof name, "decayed-update-%09lld.safetensors",
                static_cast<long long>(updates));
  trainer.save_weights(trainer.checkpoint_directory() / name);
}

}  // namespace torch_accelerated
