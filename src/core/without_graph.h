// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

namespace torch_accelerated {

/// `value` without its graph: the tensor itself where nobody else holds it, else another one in the
/// same memory. Autograd can't follow it, as it could a `detach()`, which costs ten times as much.
inline torch::Tensor without_graph(torch::Tensor value) {
  if (!value.defined() || !value.requires_grad()) return value;
  if (value.use_count() > 1) return value.variable_data();
  value.unsafeGetTensorImpl()->set_autograd_meta(nullptr);
  return value;
}

}  // namespace torch_accelerated
