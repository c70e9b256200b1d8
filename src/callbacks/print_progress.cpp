// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/print_progress.h"

#include <iomanip>

#include "base/text.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {

void PrintProgress::on_training_run_start(Trainer& trainer, const TrainingRunStart& event) {
  auto table = event.config.table();
  table.pop_back();  // print ends the line itself
  trainer.print("Training run:\n" + table);
}

void PrintProgress::on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) {
  trainer.print(concat("\nEpoch ", event.epoch, "/", trainer.run_config().num_epochs));
}

void PrintProgress::on_stop_training_error(Trainer& trainer, const StopTrainingError& event) {
  trainer.print("Stopped: " + event.reason);
}

void PrintProgress::on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) {
  const auto& progress = event.result.progress;
  auto line =
      concat("\nTraining run ended after ", progress.update, " updates in epoch ", progress.epoch,
             ", ", std::fixed, std::setprecision(1), event.result.seconds, " s");
  if (progress.skipped_updates > 0) line += concat(", ", progress.skipped_updates, " skipped");
  trainer.print(line);
}

}  // namespace torch_accelerated
