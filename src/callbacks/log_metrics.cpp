// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/log_metrics.h"

#include <iomanip>

#include "base/text.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

std::string shown(const std::string& name, double value) {
  if (name == "rows_per_second") return concat(std::fixed, std::setprecision(0), value, " rows/s");
  if (name == "eta_seconds") return concat("eta ", std::fixed, std::setprecision(0), value, " s");
  if (name == "seconds") return concat(std::fixed, std::setprecision(1), value, " s");
  return concat(name, " ", std::setprecision(4), value);
}

std::string line_of(const MetricValues& metrics) {
  std::string line;
  for (const auto& [name, value] : metrics) {
    line += (line.empty() ? "" : "  ") + shown(name, value);
  }
  return line;
}

}  // namespace

void LogMetrics::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  rows_ = trainer.history().rows().size();
}

void LogMetrics::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  if (event.update_ended) print_intermediate(trainer);
}

void LogMetrics::print_intermediate(Trainer& trainer) {
  const auto& rows = trainer.history().rows();
  for (; rows_ < rows.size(); ++rows_) {
    const auto& row = rows[rows_];
    if (!row.is_intermediate) continue;
    trainer.print(concat("Update ", row.updates, ": ", line_of(row.metrics)));
  }
}

void LogMetrics::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) {
  print_intermediate(trainer);
  trainer.print(line_of(event.metrics));
}

void LogMetrics::on_evaluation_run_end(Trainer& trainer, const EvaluationRunEnd& event) {
  trainer.print(
      concat("Evaluation of ", event.result.rows, " rows: ", line_of(event.result.metrics)));
}

}  // namespace torch_accelerated
