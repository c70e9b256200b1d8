// SPDX-License-Identifier: Apache-2.0
#include "accelerator/fused_step.h"

#include <torch/torch.h>

#include <typeinfo>

#include "accelerator/grouped_step.h"

namespace torch_accelerated {

std::unique_ptr<FusedStep> make_fused_step(torch::optim::Optimizer& optimizer) {
  const auto& type = typeid(optimizer);
  if (type == typeid(torch::optim::SGD)) {
    return make_fused_sgd(static_cast<torch::optim::SGD&>(optimizer));
  }
  if (type == typeid(torch::optim::Adam)) {
    return make_fused_adam(static_cast<torch::optim::Adam&>(optimizer));
  }
  if (type == typeid(torch::optim::AdamW)) {
    return make_fused_adamw(static_cast<torch::optim::AdamW&>(optimizer));
  }
  return nullptr;
}

}  // namespace torch_accelerated
