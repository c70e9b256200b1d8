// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/json_lines_logger.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "callbacks/line_file.h"
#include "callbacks/row_text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kJsonLinesLogger = "JsonLinesLogger";

}  // namespace

JsonLinesLogger::JsonLinesLogger(std::filesystem::path path)
    : path_(LineFile(kJsonLinesLogger, std::move(path)).path()) {
  OptionCheck check(kJsonLinesLogger);
  check.require(!path_.empty(), "path is empty; give a file, such as \"metrics.jsonl\"");
  check.throw_if_any();
}

void JsonLinesLogger::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  if (!cut_to_) written_ = trainer.history().rows().size();
  if (!trainer.accelerator().is_main_process()) return;
  const LineFile file(kJsonLinesLogger, path_);
  file.open();
  const auto content = file.read();
  if (!content.empty() && !content.starts_with("{\"epoch\":")) {
    throw ArgumentError(concat(kJsonLinesLogger, ": ", path_,
                               " is there already, and its first line doesn't begin with "
                               "{\"epoch\":; give another path, or remove it"));
  }
  lines_ = file.cut_to_lines(content, std::exchange(cut_to_, std::nullopt));
}

// Others in the list evaluate after this one has had the update's event.
void JsonLinesLogger::on_train_step_start(Trainer& trainer, const TrainStepStart&) {
  write_new_rows(trainer);
}

void JsonLinesLogger::on_train_step_end(Trainer& trainer, const TrainStepEnd&) {
  write_new_rows(trainer);
}

void JsonLinesLogger::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd&) {
  write_new_rows(trainer);
}

void JsonLinesLogger::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  write_new_rows(trainer);
}

State JsonLinesLogger::state() const {
  return State().set("lines", lines_).set("rows", static_cast<std::int64_t>(written_));
}

void JsonLinesLogger::load_state(const State& state) {
  const auto lines = state.get<std::int64_t>("lines");
  const auto rows = state.get<std::int64_t>("rows");
  // From before a first run, or the file is as it was already.
  if (lines < 0 || lines == lines_) return cut_to_.reset();
  cut_to_ = lines;
  written_ = static_cast<std::size_t>(std::max<std::int64_t>(rows, 0));
}

void JsonLinesLogger::write_new_rows(const Trainer& trainer) {
  cut_to_.reset();  // what a run is given after its start is its own
  const auto& rows = trainer.history().rows();
  if (!trainer.accelerator().is_main_process()) written_ = rows.size();  // as if it wrote
  if (written_ >= rows.size()) return;
  const LineFile file(kJsonLinesLogger, path_);
  for (; written_ < rows.size(); ++written_, ++lines_) file.append(json_line(rows[written_]));
}

}  // namespace torch_accelerated
