// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/step_output.h"

namespace torch_accelerated {

StepOutput StepOutput::detach() const {
  StepOutput result{loss.detach(), outputs.detach(), {}};
  result.scalars.reserve(scalars.size());
  for (const auto& [name, mean] : scalars) result.scalars.emplace_back(name, mean.detach());
  return result;
}

}  // namespace torch_accelerated
