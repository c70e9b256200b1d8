// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <memory>
#include <utility>
#include <vector>

#include "torch_accelerated/core/model.h"

namespace torch_accelerated {

/// Puts modules into eval mode for a scope and gives each of their parts its own mode back.
class EvaluationMode {
 public:
  explicit EvaluationMode(const std::vector<std::pair<std::string, Model>>& modules) {
    for (const auto& [name, model] : modules) {
      for (const auto& part : model.module_ptr()->modules()) {
        modes_.emplace_back(part, part->is_training());
      }
    }
    for (const auto& [name, model] : modules) model.module().eval();
  }

  // Parents come before their children and train() descends, so each part's own mode comes last.
  ~EvaluationMode() {
    for (const auto& [part, training] : modes_) {
      if (part->is_training() != training) part->train(training);
    }
  }

  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> modes_;
};

}  // namespace torch_accelerated
