// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "distributed/contract.h"

namespace torch_accelerated {

/// A parameter or buffer by its full name.
struct NamedTensor {
  std::string name;
  torch::Tensor value;
  bool is_parameter;
};

/// The parameters, then the buffers of `module`, under `prefix`; a tensor that has several names
/// stands there once, under its first.
std::vector<NamedTensor> named_tensors(const torch::nn::Module& module, const std::string& prefix);

/// Adds what the tensors of a module have to have in common on all ranks: names, order, shapes,
/// strides, dtypes and requires_grad.
void add_module(Contract& contract, const torch::nn::Module& module, const std::string& prefix);

}  // namespace torch_accelerated
