// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/csv_logger.h"

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

constexpr const char* kCsvLogger = "CsvLogger";

// The columns of a file that a logger has begun.
std::vector<std::string> columns_in(const std::string& content, const std::filesystem::path& path) {
  auto columns = first_columns();
  const auto end = content.find('\n');
  auto found = csv_fields(content.substr(0, end));
  const bool begins =
      found.size() >= columns.size() && std::equal(columns.begin(), columns.end(), found.begin());
  if (end == std::string::npos || !begins) {
    throw ArgumentError(concat(kCsvLogger, ": ", path,
                               " is there already, and its first line is no header that begins "
                               "with epoch,updates,intermediate; give another path, or remove it"));
  }
  return found;
}

// All lines with empty fields for the columns that are new.
std::string widened(const std::string& content, const std::vector<std::string>& columns,
                    std::size_t new_columns) {
  auto text = csv_line(columns);
  const std::string fields(new_columns, ',');
  for (auto begin = content.find('\n') + 1; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    text += content.substr(begin, end - begin) + fields + "\n";
    begin = end + 1;
  }
  return text;
}

}  // namespace

CsvLogger::CsvLogger(std::filesystem::path path)
    : path_(LineFile(kCsvLogger, std::move(path)).path()) {
  OptionCheck check(kCsvLogger);
  check.require(!path_.empty(), "path is empty; give a file, such as \"metrics.csv\"");
  check.throw_if_any();
}

void CsvLogger::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  if (!cut_to_) written_ = trainer.history().rows().size();
  if (!trainer.accelerator().is_main_process()) return;
  const LineFile file(kCsvLogger, path_);
  file.open();
  const auto content = file.read();
  columns_.clear();
  lines_ = 0;
  const auto cut_to = std::exchange(cut_to_, std::nullopt);
  if (content.empty()) return;
  columns_ = columns_in(content, path_);
  lines_ = file.cut_to_lines(content, cut_to);
  if (lines_ == 0) columns_.clear();  // the header went too
}

// Others in the list evaluate after this one has had the update's event.
void CsvLogger::on_train_step_start(Trainer& trainer, const TrainStepStart&) {
  write_new_rows(trainer);
}

void CsvLogger::on_train_step_end(Trainer& trainer, const TrainStepEnd&) {
  write_new_rows(trainer);
}

void CsvLogger::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd&) {
  write_new_rows(trainer);
}

void CsvLogger::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  write_new_rows(trainer);
}

State CsvLogger::state() const {
  return State().set("lines", lines_).set("rows", static_cast<std::int64_t>(written_));
}

void CsvLogger::load_state(const State& state) {
  const auto lines = state.get<std::int64_t>("lines");
  const auto rows = state.get<std::int64_t>("rows");
  // From before a first run, or the file is as it was already.
  if (lines < 0 || lines == lines_) return cut_to_.reset();
  cut_to_ = lines;
  written_ = static_cast<std::size_t>(std::max<std::int64_t>(rows, 0));
}

void CsvLogger::write_new_rows(const Trainer& trainer) {
  cut_to_.reset();  // what a run is given after its start is its own
  const auto& rows = trainer.history().rows();
  if (!trainer.accelerator().is_main_process()) written_ = rows.size();  // as if it wrote
  if (written_ >= rows.size()) return;
  const LineFile file(kCsvLogger, path_);
  for (; written_ < rows.size(); ++written_) {
    const auto& row = rows[written_];
    const auto known = columns_.size();
    if (known == 0) columns_ = first_columns();
    const bool wider = add_columns(row, columns_);
    ++lines_;
    if (known == 0) {
      ++lines_;
      file.append(csv_line(columns_) + csv_line(row, columns_));
    } else if (wider) {
      file.replace(widened(file.read(), columns_, columns_.size() - known) +
                   csv_line(row, columns_));
    } else {
      file.append(csv_line(row, columns_));
    }
  }
}

}  // namespace torch_accelerated
