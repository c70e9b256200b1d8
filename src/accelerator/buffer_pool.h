// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <vector>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Buffers of a communicator that are used again, since it frees them at its own end only. All
/// ranks take and give back in the same order.
class BufferPool {
 public:
  explicit BufferPool(Communicator& communicator) : communicator_(communicator) {}

  /// Collective where none that fits has been given back.
  torch::Tensor take(std::int64_t numel, const torch::Tensor& like) {
    for (auto free = free_.begin(); free != free_.end(); ++free) {
      const bool fits = free->numel() == numel && free->dtype() == like.dtype() &&
                        free->device() == like.device();
      if (!fits) continue;
      const auto buffer = *free;
      free_.erase(free);
      return buffer;
    }
    return communicator_.make_buffer(numel, like);
  }

  void clear() noexcept { free_.clear(); }

  void give_back(torch::Tensor buffer) { free_.push_back(std::move(buffer)); }

 private:
  Communicator& communicator_;
  std::vector<torch::Tensor> free_;
};

}  // namespace torch_accelerated
