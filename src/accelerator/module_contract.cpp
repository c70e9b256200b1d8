// SPDX-License-Identifier: Apache-2.0
#include "accelerator/module_contract.h"

#include <unordered_set>

#include "base/text.h"

namespace torch_accelerated {

std::vector<NamedTensor> named_tensors(const torch::nn::Module& module, const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  std::unordered_set<const c10::TensorImpl*> seen;
  const auto add = [&](const auto& items, bool is_parameter) {
    for (const auto& item : items) {
      if (!item.value().defined()) continue;
      if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
      tensors.push_back(
          {prefix.empty() ? item.key() : prefix + "." + item.key(), item.value(), is_parameter});
    }
  };
  add(module.named_parameters(), true);
  add(module.named_buffers(), false);
  return tensors;
}

void add_module(Contract& contract, const torch::nn::Module& module, const std::string& prefix) {
  for (const auto& item : named_tensors(module, prefix)) {
    const auto& value = item.value;
    contract.add(concat(item.is_parameter ? "parameter '" : "buffer '", item.name, "'"),
                 concat(value.dtype(), " ", value.sizes(), " strides ", value.strides(), " on ",
                        value.device().type(),
                        value.requires_grad() ? ", requires_grad" : ", without requires_grad"));
  }
}

}  // namespace torch_accelerated
