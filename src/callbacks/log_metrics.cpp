// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/log_metrics.h"

#include <iomanip>

#include "base/text.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

std::string shown(const std::string& name, double value) {
  if (name == "rows_per_second") return concat(std::fixed, std::setprecision(0), value, " rows/s");
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

void LogMetrics::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) {
  trainer.print(line_of(event.metrics));
}

void LogMetrics::on_evaluation_run_end(Trainer& trainer, const EvaluationRunEnd& event) {
  trainer.print(
      concat("Evaluation of ", event.result.rows, " rows: ", line_of(event.result.metrics)));
}

}  // namespace torch_accelerated
