// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/TensorBody.h>
#include <ATen/core/ivalue.h>

#include <cstddef>

namespace torch_accelerated {

/// `value` with each tensor in it replaced by what `change` makes of it.
template <class Change>
c10::IValue with_tensors(const c10::IValue& value, const Change& change) {
  if (value.isTensor()) return value.toTensor().defined() ? change(value.toTensor()) : value;
  if (!value.isList()) return value;
  auto list = value.toList().copy();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const c10::IValue& element = list.get(i);
    if (element.isTensor() && element.toTensor().defined()) list.set(i, change(element.toTensor()));
  }
  return list;
}

/// Calls `body` with each tensor in `value`.
template <class Body>
void each_tensor(const c10::IValue& value, const Body& body) {
  with_tensors(value, [&](const at::Tensor& tensor) {
    body(tensor);
    return tensor;
  });
}

}  // namespace torch_accelerated
