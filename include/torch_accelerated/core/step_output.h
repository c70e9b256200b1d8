// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "torch_accelerated/core/mean.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// What one micro-batch gave.
struct StepOutput {
  Mean loss;                                          ///< recorded as train_loss or eval_loss
  TensorDict outputs;                                 ///< the model's, for metrics and callbacks
  std::vector<std::pair<std::string, Mean>> scalars;  ///< recorded as train_<name>, eval_<name>

  /// The same without graphs, so that keeping it keeps no activations.
  StepOutput detach() const&;
  StepOutput detach() &&;
};

}  // namespace torch_accelerated
