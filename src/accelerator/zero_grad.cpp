// SPDX-License-Identifier: Apache-2.0
#include "accelerator/zero_grad.h"

#include <torch/torch.h>

#include "core/gradient_of.h"

namespace torch_accelerated {

void zero_grad(torch::optim::Optimizer& optimizer) {
  for (auto& group : optimizer.param_groups()) {
    for (auto& parameter : group.params()) {
      // Asking for it as mutable makes autograd's data of a tensor that has none.
      if (gradient_of(parameter).defined()) parameter.mutable_grad().reset();
    }
  }
}

}  // namespace torch_accelerated
