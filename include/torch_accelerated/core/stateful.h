// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "torch_accelerated/core/state.h"

namespace torch_accelerated {

/// What can be put away and gone on with: `load_state(state())` leaves it as it was, also in
/// another process.
class Stateful {
 public:
  virtual ~Stateful() = default;

  /// Empty where nothing is kept.
  virtual State state() const { return {}; }

  /// @throws StateError  a state that isn't one of this object's; nothing has changed then.
  virtual void load_state(const State& /*state*/) {}
};

}  // namespace torch_accelerated
