// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copies.h"

#include <torch/torch.h>

#include <set>

namespace torch_accelerated {

HostCopies::HostCopies() = default;
HostCopies::~HostCopies() = default;

TensorDict HostCopies::of(const TensorDict& tensors) {
  const torch::NoGradGuard no_grad;
  std::vector<TensorDict::Entry> copies;
  std::set<c10::DeviceIndex> devices;
  for (const auto& [name, tensor] : tensors) {
    auto& buffer = buffers_[name];
    const bool fits = buffer.defined() && buffer.sizes() == tensor.sizes() &&
                      buffer.scalar_type() == tensor.scalar_type();
    if (!fits) {
      buffer =
          torch::empty(tensor.sizes(),
                       torch::TensorOptions(tensor.scalar_type()).pinned_memory(tensor.is_cuda()));
    }
    if (tensor.is_cuda()) devices.insert(tensor.get_device());
    buffer.copy_(tensor.detach(), /*non_blocking=*/tensor.is_cuda());
    copies.emplace_back(name, buffer);
  }
  for (const auto device : devices) torch::cuda::synchronize(device);
  TensorDict result;
  for (auto& [name, copy] : copies) result.set(name, std::move(copy));
  return result;
}

}  // namespace torch_accelerated
