// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "torch_accelerated/schedulers/scheduler.h"

namespace torch::optim {
class LRScheduler;
}

namespace torch_accelerated {

/// Makes one of LibTorch's schedulers, or of a user's after its base class, for an optimizer.
using TorchSchedulerFactory =
    std::function<std::unique_ptr<torch::optim::LRScheduler>(torch::optim::Optimizer&)>;

/// A scheduler of LibTorch's, stepped once after each update.
///
/// Its state is how often it was stepped, and is resumed by replay: the rates that the param groups
/// began with are set, `make` makes another one, and that is stepped as often. So `make` may be
/// called several times, and the optimizer must have as many param groups as when it was saved.
/// Ranks compare its type, its rates and `name`, as LibTorch tells nothing of its options: where
/// ranks might give it others, name them.
/// @param name  what it is called in the run's table.
/// @throws ArgumentError  an empty `make` or `name` at once; when the run starts, a `make` that
///                        gives null.
SchedulerFactory from_torch(TorchSchedulerFactory make, std::string name = "torch scheduler");

}  // namespace torch_accelerated
