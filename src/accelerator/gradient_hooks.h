// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace torch_accelerated {

/// Calls a function each time that a backward has added to a parameter's gradient, with the
/// parameter's index; in the thread that runs the backward.
class GradientHooks {
 public:
  GradientHooks(std::span<const torch::Tensor> parameters, std::function<void(std::size_t)> call);
  ~GradientHooks();
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;

 private:
  struct Hook {
    std::shared_ptr<torch::autograd::Node> accumulator;
    std::uintptr_t key;
  };

  std::vector<Hook> hooks_;
};

}  // namespace torch_accelerated
