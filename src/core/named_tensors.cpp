// SPDX-License-Identifier: Apache-2.0
#include "core/named_tensors.h"

#include <torch/torch.h>

#include <unordered_set>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

template <class Items>
TensorDict each_once(const Items& items) {
  std::unordered_set<const at::TensorImpl*> seen;
  TensorDict tensors;
  for (const auto& item : items) {
    if (seen.insert(item.value().unsafeGetTensorImpl()).second) {
      tensors.set(item.key(), item.value());
    }
  }
  return tensors;
}

bool is_averaged(const torch::Tensor& tensor) {
  return tensor.is_floating_point() || tensor.is_complex();
}

}  // namespace

TensorDict named_parameters(const torch::nn::Module& module) {
  return each_once(module.named_parameters());
}

TensorDict named_buffers(const torch::nn::Module& module) {
  return each_once(module.named_buffers());
}

TensorDict named_tensors(const torch::nn::Module& module) {
  auto tensors = named_parameters(module);
  for (const auto& [name, buffer] : named_buffers(module)) tensors.set(name, buffer);
  return tensors;
}

TensorDict copied(const TensorDict& tensors, std::optional<c10::Device> device) {
  const torch::NoGradGuard no_grad;
  TensorDict copies;
  for (const auto& [name, tensor] : tensors) {
    const auto target = tensor.options().device(device.value_or(tensor.device()));
    copies.set(name, tensor.detach().to(target, /*non_blocking=*/false, /*copy=*/true));
  }
  return copies;
}

TensorDict copied_for_sums(const TensorDict& tensors) {
  const torch::NoGradGuard no_grad;
  TensorDict copies;
  for (const auto& [name, tensor] : tensors) {
    const bool is_half = tensor.is_floating_point() && tensor.element_size() < 4;
    const auto dtype = is_half ? torch::kFloat32 : tensor.scalar_type();
    copies.set(name, tensor.detach().to(dtype, /*non_blocking=*/false, /*copy=*/true));
  }
  return copies;
}

TensorDict fitted(const TensorDict& values, const TensorDict& tensors, const std::string& what) {
  TensorDict found;
  for (const auto& [name, tensor] : tensors) {
    if (!values.contains(name)) {
      throw StateError(concat(what, ": there is no '", name, "' among the ", values.size(),
                              " tensors given; they are another model's"));
    }
    const auto& value = values[name];
    if (value.sizes() != tensor.sizes()) {
      throw StateError(concat(what, ": '", name, "' has shape ", value.sizes(), ", expected ",
                              tensor.sizes(), "; it is another model's"));
    }
    found.set(name, value);
  }
  if (values.size() != tensors.size()) {
    throw StateError(concat(what, ": there are ", values.size(), " tensors, expected ",
                            tensors.size(), "; they are another model's"));
  }
  return found;
}

void copy_into(const TensorDict& values, const TensorDict& tensors, const std::string& what) {
  const torch::NoGradGuard no_grad;
  const auto found = fitted(values, tensors, what);
  const auto* value = found.begin();
  for (const auto& [name, tensor] : tensors) tensor.copy_((value++)->second);
}

void move_towards(const TensorDict& tensors, double weight, const TensorDict& averages) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> moved;
  std::vector<torch::Tensor> targets;
  moved.reserve(tensors.size());
  targets.reserve(tensors.size());
  const auto* entry = averages.begin();
  for (const auto& [name, tensor] : tensors) {
    const auto& average = (entry++)->second;
    if (!is_averaged(tensor)) {
      average.copy_(tensor);
      continue;
    }
    moved.push_back(average);
    targets.push_back(tensor.to(average.scalar_type()));
  }
  if (!moved.empty()) at::_foreach_lerp_(moved, targets, weight);
}

SwappedTensors::SwappedTensors(const TensorDict& values, const TensorDict& tensors)
    : tensors_(tensors) {
  const torch::NoGradGuard no_grad;
  // All that can fail comes before the first exchange.
  TensorDict fitting;
  const auto* value = values.begin();
  for (const auto& [name, tensor] : tensors) {
    data_.set(name, tensor.variable_data());
    fitting.set(name, (value++)->second.to(tensor.options()));
  }
  const auto* given = fitting.begin();
  for (const auto& [name, tensor] : tensors) tensor.set_data((given++)->second);
}

SwappedTensors::~SwappedTensors() {
  const auto* data = data_.begin();
  for (const auto& [name, tensor] : tensors_) tensor.set_data((data++)->second);
}

}  // namespace torch_accelerated
