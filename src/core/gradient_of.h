// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/TensorBody.h>

namespace torch_accelerated {

/// `parameter.grad()`, without its question whether the tensor is a leaf, which costs ten times as
/// much.
inline const at::Tensor& gradient_of(const at::Tensor& parameter) {
  return parameter.unsafeGetTensorImpl()->grad();
}

}  // namespace torch_accelerated
