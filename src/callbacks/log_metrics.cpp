// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/log_metrics.h"

#include <iomanip>

#include "base/text.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

std::string line_of(const MetricValues& metrics) {
  std::string line;
  for (const auto& [name, value] : metrics) {
    if (!line.empty()) line += "  ";
    line += concat(name, " ", std::setprecision(5), value);
  }
  return line;
}

}  // namespace

void LogMetrics::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd& event) {
  trainer.print(line_of(event.metrics));
}

void LogMetrics::on_evaluation_run_end(Trainer& trainer, const EvaluationRunEnd& event) {
  trainer.print(concat("Evaluation of ", event.result.rows, " rows: ", line_of(event.result.metrics)));
}

}  // namespace torch_accelerated
