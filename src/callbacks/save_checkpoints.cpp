// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/save_checkpoints.h"

#include "base/text.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kSaveCheckpoints = "SaveCheckpoints";

// Whether no epoch follows.
bool is_last(const Trainer& trainer) {
  const auto& config = trainer.run_config();
  const auto progress = trainer.progress();
  return progress.epoch >= config.num_epochs ||
         (config.max_updates && progress.update >= *config.max_updates);
}

}  // namespace

SaveCheckpoints::SaveCheckpoints(SaveCheckpointsOptions options) : options_(options) {
  const auto epochs = options.every_epochs.value_or(1);
  const auto updates = options.every_updates.value_or(1);
  const auto seconds = options.every.value_or(std::chrono::seconds(1)).count();
  OptionCheck(kSaveCheckpoints)
      .require(epochs >= 1, concat("every_epochs must be >= 1, got ", epochs))
      .require(updates >= 1, concat("every_updates must be >= 1, got ", updates))
      .require(seconds >= 1, concat("every must be >= 1 second, got ", seconds))
      .require(options.every_epochs || options.every_updates || options.every || options.at_end,
               "it would never save; give every_epochs, every_updates, every or at_end")
      .throw_if_any();
}

// `every` is the main process's alone.
std::string SaveCheckpoints::settings() const {
  return concat("every_epochs ", setting(options_.every_epochs), ", every_updates ",
                setting(options_.every_updates), ", at_end ", setting(options_.at_end));
}

void SaveCheckpoints::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  last_ = std::chrono::steady_clock::now();
  if (trainer.keeps_checkpoints()) return;
  ArgumentError error(concat(kSaveCheckpoints,
                             ": the run keeps no checkpoints; give TrainOptions::checkpoints a "
                             "directory"));
  error.set_on_all_ranks();
  throw error;
}

void SaveCheckpoints::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void SaveCheckpoints::on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void SaveCheckpoints::after_update(Trainer& trainer, std::int64_t updates) {
  if (options_.every_updates && updates % *options_.every_updates == 0) {
    trainer.save_checkpoint();
  }
  // Clocks differ between ranks: the main process asks, and all hear of it in the next update.
  if (!options_.every || !trainer.accelerator().is_main_process()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < *options_.every) return;
  last_ = now;
  trainer.request_checkpoint();
}

void SaveCheckpoints::on_training_run_epoch_end(Trainer& trainer,
                                                const TrainingRunEpochEnd& event) {
  const bool is_due = options_.every_epochs && event.epoch % *options_.every_epochs == 0;
  if (is_due || (options_.at_end && is_last(trainer))) trainer.save_checkpoint();
}

void SaveCheckpoints::on_stop_training_error(Trainer& trainer, const StopTrainingError&) {
  if (options_.at_end) trainer.save_checkpoint();
}

}  // namespace torch_accelerated
