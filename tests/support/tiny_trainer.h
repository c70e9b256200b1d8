// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "support/tiny.h"

namespace tests {

/// A trainer without callbacks, and what it trains.
struct TinyTrainer {
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

}  // namespace tests
