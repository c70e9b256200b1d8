// SPDX-License-Identifier: Apache-2.0
#include "distributed/tensor_check.h"

#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {
namespace {

bool is_known(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat16:
    case torch::kBFloat16:
    case torch::kFloat32:
    case torch::kFloat64:
    case torch::kUInt8:
    case torch::kInt8:
    case torch::kInt16:
    case torch::kInt32:
    case torch::kInt64:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check_moved(const char* call, const torch::Tensor& tensor) {
  if (!tensor.defined()) throw ArgumentError(concat(call, ": the tensor is undefined"));
  if (tensor.layout() != torch::kStrided) {
    throw ArgumentError(concat(call, ": the tensor is ", tensor.layout(),
                               ", a dense one is wanted; make it one with to_dense()"));
  }
  if (tensor.is_contiguous()) return;
  throw ArgumentError(concat(call, ": the tensor of shape ", tensor.sizes(), " and strides ",
                             tensor.strides(), " is not contiguous; give tensor.contiguous()"));
}

void check_summed(const char* call, const torch::Tensor& tensor) {
  check_moved(call, tensor);
  if (is_known(tensor.scalar_type())) return;
  throw ArgumentError(concat(call, ": the dtype ", tensor.dtype(),
                             " can't be summed; use a floating-point or an integer dtype"));
}

}  // namespace torch_accelerated::detail
