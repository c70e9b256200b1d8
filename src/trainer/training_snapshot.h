// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace torch_accelerated {

/// Copies, in the host's memory, of what training changes in a module and an optimizer, to give it
/// all back.
class TrainingSnapshot {
 public:
  /// @throws ArgumentError  an optimizer whose state can't be copied.
  TrainingSnapshot(torch::nn::Module& module, torch::optim::Optimizer& optimizer);

  /// Everything as it was; gradients are left as they are. Can be called once.
  void give_back();

 private:
  struct SavedState {
    void* key;  // the optimizer's own
    std::unique_ptr<torch::optim::OptimizerParamState> state;
    std::string archive;  // of a type that isn't LibTorch's: `state` shares its tensors until then
    c10::Device device{c10::kCPU};  // where its tensors belong
  };

  void save(void* key, const torch::optim::OptimizerParamState& state);

  torch::nn::Module* module_;
  torch::optim::Optimizer* optimizer_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> parameters_;  // each with its copy
  std::vector<std::pair<std::string, torch::Tensor>> buffers_;
  std::vector<std::pair<torch::nn::Module*, bool>> modes_;
  std::vector<SavedState> states_;
};

}  // namespace torch_accelerated
