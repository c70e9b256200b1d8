// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/model.h"

#include <torch/torch.h>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace detail {

TensorDict as_outputs(torch::Tensor output) {
  TensorDict outputs;
  outputs.set("output", std::move(output));
  return outputs;
}

std::shared_ptr<torch::nn::Module> shared_module(torch::nn::Module& module) {
  try {
    return module.shared_from_this();
  } catch (const std::bad_weak_ptr&) {
    throw ArgumentError("Model: the module '" + module.name() +
                        "' is an object that no shared_ptr owns, such as an Impl on the stack; "
                        "make it through its holder or std::make_shared");
  }
}

}  // namespace detail

Model::Model(std::shared_ptr<torch::nn::Module> module, Forward forward)
    : module_(std::move(module)), forward_(std::move(forward)) {
  if (!module_) {
    throw ArgumentError("Model: the module is null; make it before the Model, as in `Net net;`");
  }
  if (!forward_) {
    throw ArgumentError("Model: the forward function is empty; give a function of a Batch");
  }
}

}  // namespace torch_accelerated
