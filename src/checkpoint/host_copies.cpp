// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copies.h"

#include <torch/torch.h>

namespace torch_accelerated {

HostCopies::HostCopies() = default;
HostCopies::~HostCopies() = default;

TensorDict HostCopies::of(const TensorDict& tensors) {
  const torch::NoGradGuard no_grad;
  std::vector<TensorDict::Entry> copies;
  bool on_device = false;
  for (const auto& [name, tensor] : tensors) {
    auto& buffer = buffers_[name];
    const bool fits = buffer.defined() && buffer.sizes() == tensor.sizes() &&
                      buffer.scalar_type() == tensor.scalar_type();
    if (!fits) {
      buffer =
          torch::empty(tensor.sizes(),
                       torch::TensorOptions(tensor.scalar_type()).pinned_memory(tensor.is_cuda()));
    }
    on_device |= tensor.is_cuda();
    buffer.copy_(tensor.detach(), /*non_blocking=*/tensor.is_cuda());
    copies.emplace_back(name, buffer);
  }
  if (on_device) torch::cuda::synchronize();
  TensorDict result;
  for (auto& [name, copy] : copies) result.set(name, std::move(copy));
  return result;
}

}  // namespace torch_accelerated
