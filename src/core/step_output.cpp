// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/step_output.h"

namespace torch_accelerated {

StepOutput StepOutput::detach() const& { return StepOutput(*this).detach(); }

StepOutput StepOutput::detach() && {
  loss = loss.detach();
  outputs = std::move(outputs).detach();
  for (auto& [name, mean] : scalars) mean = mean.detach();
  return std::move(*this);
}

}  // namespace torch_accelerated
