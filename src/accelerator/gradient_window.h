// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/core/mean.h"

namespace torch_accelerated {

/// Adds up the gradients of one optimizer's window, weighted so that they end as the gradient of
/// the window's mean loss: sum over micro-batches of (weight x mean) / E, times E / (sum of
/// weights) at the end.
///
/// E, the expected weight of the window, only keeps magnitudes those of a mean. Over rows it is
/// known and equal to the sum, so nothing is left to multiply.
class GradientWindow {
 public:
  /// Back-propagates one micro-batch.
  /// @param only  what gradients are accumulated into; nothing: every leaf of the graph.
  void backward(const Mean& loss, const WindowPosition& position,
                const std::optional<std::vector<torch::Tensor>>& only);

  /// Makes the gradients of `optimizer`'s parameters exact. Waits for the device, once.
  Gradients close(const torch::optim::Optimizer& optimizer);

  /// The window's mean loss, from `close` to the next one; on the host.
  double loss() const noexcept { return loss_; }

  bool is_open() const noexcept { return micro_batches_ > 0; }

  /// Begins the next window; what was learned about the weights of losses stays.
  void reopen() noexcept;

 private:
  bool note_weight(const Mean& loss, const WindowPosition& position);
  void note_expected(const WindowPosition& position, std::optional<double> first_weight);
  void note_loss(const torch::Tensor& numerator, double weight);

  double expected_ = 0;        // E
  double host_weight_ = 0;     // of rows, and of weights on the CPU
  torch::Tensor weight_;       // (), float64: of weights on other devices
  double host_loss_ = 0;       // sum of weight x mean, on the CPU
  torch::Tensor device_loss_;  // (), float64: the same on other devices
  double loss_ = 0;
  std::int64_t micro_batches_ = 0;
  std::optional<double> scale_of_rows_;  // a power of two; fixed at the first weighted loss
};

}  // namespace torch_accelerated
