// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/core/state.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// E: the weight that a window is expected to have, over all ranks. It is one number on all ranks,
/// since gradients that were divided by it are added up.
class ExpectedWeight {
 public:
  /// @param control  null in a world of one.
  explicit ExpectedWeight(Communicator* control) : control_(control) {}

  /// To be called for each micro-batch that weighs something, and with several ranks for each one:
  /// the run's first call is then collective.
  /// @param weight  of the loss, where it is no mean over rows; nothing also where there is no
  /// loss.
  void begin(const WindowPosition& position, std::optional<double> weight);

  bool is_alone() const noexcept { return control_ == nullptr; }

  /// Of the window in progress.
  double value() const noexcept { return value_; }

  /// For a window whose weights are known to the caller.
  void set(double value) noexcept { value_ = value; }

  /// Whether losses have weights of their own, on any rank.
  bool is_weighted() const noexcept { return scale_.has_value(); }

  /// Whether a weight would still be taken note of.
  bool wants_weight() const noexcept { return is_alone() ? !scale_ : !agreed_; }

  void end_window() noexcept { value_ = 0; }

  /// What has been fixed for the run; empty before.
  State state() const;
  void load_state(const State& state);

 private:
  void agree(const WindowPosition& position, std::optional<double> weight);

  Communicator* control_;
  bool agreed_ = false;
  double value_ = 0;       // 0 before it is known
  double first_rows_ = 0;  // of all ranks' first micro-batches
  std::optional<double>
      scale_;  // weight of a row: a power of two; fixed at the first weighted loss
};

}  // namespace torch_accelerated
