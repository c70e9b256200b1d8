// SPDX-License-Identifier: Apache-2.0
#include "accelerator/recordable.h"

#include <ATen/MemoryOverlap.h>

#include <set>
#include <string>

#include "accelerator/device_graph.h"
#include "accelerator/ivalue_tensors.h"
#include "base/text.h"

namespace torch_accelerated {
namespace {

void require_plain(const c10::OperatorHandle& operation, const at::Tensor& tensor) {
  if (tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.has_storage()) return;
  throw CannotRecord(concat(operation.schema().name(),
                            " has a tensor that is sparse, packed, or on another device"));
}

bool are_one(const at::Tensor& a, const at::Tensor& b) {
  return a.is_alias_of(b) && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
         a.strides() == b.strides();
}

bool reads_a_number(const c10::OperatorHandle& operation, const torch::jit::Stack& arguments) {
  // With which LibTorch's attention looks whether it is one of a sequence with itself.
  const bool compares_one = operation.schema().name() == "aten::equal" &&
                            are_one(arguments[0].toTensor(), arguments[1].toTensor());
  return operation.hasTag(at::Tag::data_dependent_output) && !compares_one;
}

// An index of numbers gives as many as it has; one of booleans doesn't.
bool has_mask(const c10::IValue& indices) {
  bool has = false;
  each_tensor(indices, [&](const at::Tensor& index) {
    has = has || index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
  });
  return has;
}

bool gives_any_size(const c10::OperatorHandle& operation, const torch::jit::Stack& arguments) {
  static const std::set<std::string> without_tag{"aten::_pack_padded_sequence", "aten::resize_",
                                                 "aten::resize_as_", "aten::set_"};
  const auto& name = operation.schema().name();
  if (name == "aten::index") return has_mask(arguments[1]);
  return operation.hasTag(at::Tag::dynamic_output_shape) || without_tag.contains(name);
}

}  // namespace

void require_recordable(const c10::OperatorHandle& operation, const torch::jit::Stack& arguments) {
  for (const auto& argument : arguments) {
    each_tensor(argument, [&](const at::Tensor& tensor) { require_plain(operation, tensor); });
  }
  if (reads_a_number(operation, arguments)) {
    throw CannotRecord(concat(operation.schema().name(), " reads a number of a tensor"));
  }
  if (gives_any_size(operation, arguments)) {
    throw CannotRecord(
        concat(operation.schema().name(), " makes tensors whose size may be another each time"));
  }
}

void require_copyable(const c10::OperatorHandle& operation, const torch::jit::Stack& results) {
  for (const auto& result : results) {
    each_tensor(result, [&](const at::Tensor& tensor) {
      require_plain(operation, tensor);
      if (at::has_internal_overlap(tensor) != at::MemOverlap::Yes) return;
      throw CannotRecord(concat(operation.schema().name(), " gives a tensor that overlaps itself"));
    });
  }
}

}  // namespace torch_accelerated
