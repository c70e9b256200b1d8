// SPDX-License-Identifier: Apache-2.0
#include "accelerator/channels_last.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/named_tensors.h"

namespace torch_accelerated {
namespace {

constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

bool is_to_be_moved(const torch::Tensor& tensor) {
  return tensor.defined() && tensor.layout() == torch::kStrided && tensor.dim() == 4 &&
         !tensor.is_contiguous(kChannelsLast);
}

}  // namespace

void lay_out_channels_last(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : named_tensors(module)) {
    if (is_to_be_moved(tensor)) tensor.set_data(tensor.detach().contiguous(kChannelsLast));
  }
}

Batch in_channels_last(Batch batch) {
  const bool any = std::any_of(batch.begin(), batch.end(), [](const TensorDict::Entry& entry) {
    return is_to_be_moved(entry.second);
  });
  if (!any) return batch;
  for (const auto& [name, tensor] : Batch(batch)) {
    if (is_to_be_moved(tensor)) batch.set(name, tensor.contiguous(kChannelsLast));
  }
  return batch;
}

}  // namespace torch_accelerated
