// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Appends the history's rows to a file, one JSON object a line, from the main process only:
/// {"epoch":1,"updates":8,"intermediate":false,"train_loss":0.5,"eval_loss":null}.
///
/// Numbers read back to the same bits; one that isn't finite is null. Each row is one write of one
/// line. A file of an earlier run is gone on with; half a line at its end, which a broken process
/// has left, is cut off. A run that goes on from a checkpoint cuts the file back to the lines that
/// there were.
class JsonLinesLogger : public Callback {
 public:
  /// @throws ArgumentError  an empty path.
  explicit JsonLinesLogger(std::filesystem::path path);

  /// @throws ArgumentError  the file is there and no JsonLinesLogger's; it stays as it is.
  /// @throws Error          it can't be written to (exit code 74); so do the other events.
  void on_training_run_start(Trainer& trainer, const TrainingRunStart& event) override;
  void on_train_step_start(Trainer& trainer, const TrainStepStart& event) override;
  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override;
  void on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) override;
  void on_training_run_end(Trainer& trainer, const TrainingRunEnd& event) override;

  /// How many lines the file has, -1 before the first run.
  State state() const override;
  void load_state(const State& state) override;

 private:
  void write_new_rows(const Trainer& trainer);

  std::filesystem::path path_;
  std::size_t written_ = 0;             // rows of the history
  std::int64_t lines_ = -1;             // of the file; not known before a run has opened it
  std::optional<std::int64_t> cut_to_;  // lines of a loaded state, for the next run
};

}  // namespace torch_accelerated
