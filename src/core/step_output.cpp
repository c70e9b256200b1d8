// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/step_output.h"

namespace torch_accelerated {

StepOutput StepOutput::detach() const& { return StepOutput(*this).detach(); }

StepOutput StepOutput::detach() && {
  for (auto& [name, mean] : scalars) mean = std::move(mean).detach();
  return {std::move(loss).detach(), std::move(outputs).detach(), std::move(scalars)};
}

}  // namespace torch_accelerated
