// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <string>
#include <unordered_set>
#include <vector>

namespace torch_accelerated {

/// A module, as the holder of its own parameters and buffers and not of its children's.
struct ModelPart {
  std::string name;  // dotted, "(model)" for the model itself
  torch::nn::Module* module;
  std::shared_ptr<torch::nn::Module> owner;  // null for the model itself

  std::vector<torch::Tensor> parameters() const { return module->parameters(/*recurse=*/false); }
  bool has_tensors() const;
};

/// A direct child with all modules in it, or one module alone.
struct ModelSlice {
  std::string name;
  std::string type;
  std::vector<ModelPart> parts;
};

/// The layer groups of a model; within a group no module comes twice.
std::vector<ModelSlice> layer_groups(const torch::nn::Module& model);

/// The modules of `groups` that have tensors of their own.
std::vector<ModelSlice> layers_of(const std::vector<ModelSlice>& groups);

/// "Linear" of a torch::nn::LinearImpl.
std::string short_type(const torch::nn::Module& module);

/// LibTorch's, and all that are called so, such as SyncBatchNorm.
bool is_batch_norm(const torch::nn::Module& module);

/// Whether it normalises what flows through it.
bool is_norm(const torch::nn::Module& module);

/// Tensors that have been come across.
class SeenTensors {
 public:
  /// Whether it is the first time.
  bool add(const torch::Tensor& tensor) {
    return seen_.insert(tensor.unsafeGetTensorImpl()).second;
  }
  bool contains(const torch::Tensor& tensor) const {
    return seen_.contains(tensor.unsafeGetTensorImpl());
  }

 private:
  std::unordered_set<const c10::TensorImpl*> seen_;
};

}  // namespace torch_accelerated
