// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <stdexcept>
#include <utility>

#include "support/tiny.h"

namespace tests {

/// Gives `Other` a state once an epoch has begun, as a resume within an epoch does, and lets that
/// epoch's first step fail. The runs after that are left alone.
template <class Other>
class FailsAfterLoading : public ta::Callback {
 public:
  explicit FailsAfterLoading(ta::State state) : state_(std::move(state)) {}

  void on_train_epoch_start(ta::Trainer& trainer, const ta::TrainEpochStart&) override {
    if (state_) trainer.callbacks().find<Other>()->load_state(*state_);
  }
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd&) override {
    if (std::exchange(state_, std::nullopt)) throw std::runtime_error("the step fails");
  }

 private:
  std::optional<ta::State> state_;
};

}  // namespace tests
