// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "support/tiny.h"

namespace tests {

/// Counts the lines of a file when each micro-batch begins.
class LinesAtStepStart : public ta::Callback {
 public:
  explicit LinesAtStepStart(std::filesystem::path path) : path_(std::move(path)) {}

  void on_train_step_start(ta::Trainer&, const ta::TrainStepStart&) override {
    std::ifstream file(path_);
    lines.push_back(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
  }

  std::vector<std::int64_t> lines;

 private:
  std::filesystem::path path_;
};

}  // namespace tests
