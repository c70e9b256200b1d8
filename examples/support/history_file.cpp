// SPDX-License-Identifier: Apache-2.0
#include "support/history_file.h"

#include <nlohmann/json.hpp>

namespace examples {

namespace ta = torch_accelerated;

HistoryFile::HistoryFile(const std::filesystem::path& directory)
    : path_(directory / "history.jsonl") {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  file_.open(path_);
  if (!file_) {
    throw ta::ArgumentError("--output: " + path_.string() +
                            " can't be written; name a folder that you may write to");
  }
}

void HistoryFile::on_training_run_epoch_end(ta::Trainer& trainer,
                                            const ta::TrainingRunEpochEnd& event) {
  nlohmann::ordered_json line{{"epoch", event.epoch}, {"updates", trainer.progress().update}};
  for (const char* name :
       {"train_loss", "eval_loss", "eval_accuracy", "learning_rate", "seconds"}) {
    line[name] = event.metrics[name];
  }
  file_ << line.dump() << '\n' << std::flush;
  if (!file_) throw ta::DataError(path_.string() + " could not be written; is the disk full?");
}

}  // namespace examples
