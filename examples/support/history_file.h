// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch_accelerated/torch_accelerated.h>

#include <filesystem>
#include <fstream>

namespace examples {

/// Writes history.jsonl, one line an epoch, into a folder that it makes.
class HistoryFile : public torch_accelerated::Callback {
 public:
  explicit HistoryFile(const std::filesystem::path& directory);

  void on_training_run_epoch_end(torch_accelerated::Trainer& trainer,
                                 const torch_accelerated::TrainingRunEpochEnd& event) override;

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace examples
