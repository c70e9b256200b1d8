// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include "accelerator/expected_weight.h"
#include "accelerator/loss_scaler.h"
#include "core/pairwise_sum.h"
#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/core/mean.h"

namespace torch_accelerated {

/// The loss of a window as the fraction that it is.
struct WindowSums {
  double loss = 0;    ///< sum of weight x mean
  double weight = 0;  ///< sum of weights
};

/// Adds up the gradients of one optimizer's window, weighted so that they end as the gradient of
/// the window's mean loss: sum over micro-batches of (weight x mean) / E, times E / (sum of
/// weights) at the end.
///
/// E, the expected weight of the window, only keeps magnitudes those of a mean. Over rows it is
/// known and equal to the sum, so nothing is left to multiply.
class GradientWindow {
 public:
  /// What the host knows of a window in progress.
  struct Progress {
    WindowSums host = {};  ///< of losses whose numbers are on the host
    double expected_weight = 0;
    std::int64_t micro_batches = 0;
    std::int64_t planned = 0;  ///< micro-batches of the window
    bool has_backward = false;
    bool is_foreign = false;
    bool knows_rows = true;  ///< of the whole window, in each of its micro-batches
    bool adds_loss = false;  ///< whether any part of the sums is on the device
    bool adds_weight = false;

    bool operator==(const Progress&) const = default;
  };

  /// @param control       with which the ranks agree on E, where there are several.
  /// @param reads_losses  whether the host may read losses that lie in its memory; not where their
  ///                      sums are recorded.
  explicit GradientWindow(Communicator* control = nullptr, bool reads_losses = true)
      : expected_(control), reads_losses_(reads_losses) {}

  /// Back-propagates one micro-batch.
  /// @param only    what gradients are accumulated into; nothing: every leaf of the graph.
  /// @param scaler  scales the loss, where not null; whoever closes the window takes that out.
  void backward(const Mean& loss, const WindowPosition& position,
                const std::optional<std::vector<torch::Tensor>>& only, const LossScaler* scaler);

  /// Takes note of a micro-batch without rows.
  void skip(const WindowPosition& position);

  /// Takes gradients that came about elsewhere as those of a loss of weight 1.
  void take_as_one();

  /// Whether any backward was done in this window.
  bool has_backward() const noexcept { return progress_.has_backward; }

  /// Whether its gradients came about elsewhere.
  bool is_foreign() const noexcept { return progress_.is_foreign; }

  /// What this rank has added up. Waits for the device.
  WindowSums sums();

  /// The same, (2) and float64 on `device`, which the host doesn't wait for.
  torch::Tensor sums_on(c10::Device device) const;

  /// Where the window has come to.
  Progress progress() const;
  void set_progress(const Progress& progress) noexcept;

  /// Goes as far on as from `before` to `after`: what a backward did that was recorded between
  /// them.
  void advance(const Progress& before, const Progress& after) noexcept;

  /// Makes the gradients of `optimizer`'s parameters exact, given the sums over all ranks.
  Gradients close(const WindowSums& sums, const torch::optim::Optimizer& optimizer);

  /// The same by the device alone, given the sums as `sums_on` gives this rank's.
  void close(const torch::Tensor& sums, const torch::optim::Optimizer& optimizer) const;

  /// What is decided of a window by its sums.
  static Gradients verdict(const WindowSums& sums);

  /// A window's mean loss.
  static double mean(const WindowSums& sums) {
    return sums.weight == 0 ? 0.0 : sums.loss / sums.weight;
  }

  /// The window's mean loss, from `close` to the next one; on the host.
  double loss() const noexcept { return loss_; }

  /// Whether its micro-batches are shards.
  bool has_shards() const noexcept { return !shards_.empty(); }

  bool is_open() const noexcept { return progress_.micro_batches > 0; }

  /// Begins the next window; what was learned about the weights of losses stays.
  void reopen() noexcept;

  ExpectedWeight& expected() noexcept { return expected_; }
  const ExpectedWeight& expected() const noexcept { return expected_; }

 private:
  bool has_expected_weight() const noexcept;
  void lend(const torch::Tensor& numerator, const WindowPosition& position);

  struct AddSums {
    void operator()(WindowSums& left, const WindowSums& right) const {
      left.loss += right.loss;
      left.weight += right.weight;
    }
  };

  void count(const WindowPosition& position);
  void add(const Mean& loss, double weight, const WindowPosition& position);

  bool is_on_host(const torch::Tensor& number) const { return reads_losses_ && number.is_cpu(); }
  void add_on_device(torch::Tensor& sum, const torch::Tensor& number, double factor);

  ExpectedWeight expected_;
  bool reads_losses_;
  Progress progress_;
  torch::Tensor device_loss_;    // (), float64: sum of weight x mean of losses on the device
  torch::Tensor device_weight_;  // (), float64
  PairwiseSum<WindowSums, AddSums> shards_;
  double loss_ = 0;
};

}  // namespace torch_accelerated
