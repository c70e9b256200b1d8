// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "torch_accelerated/accelerator/autocast.h"
#include "torch_accelerated/accelerator/window.h"
#include "torch_accelerated/core/mean.h"
#include "torch_accelerated/core/tensor_dict.h"
#include "torch_accelerated/data/data_loader.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Where steps run.
struct AcceleratorOptions {
  std::string device =
      {};  ///< "cpu", "cuda" or "cuda:1"; empty: CUDA where there is a GPU, else the CPU
  MixedPrecision mixed_precision = MixedPrecision::kNo;
};

/// Owns where a training step runs: the device, the precision, and how gradients of micro-batches
/// become those of an update. A Trainer uses one; a hand-written loop can use it alone.
///
/// Called from one thread.
class Accelerator {
 public:
  /// @throws ArgumentError  a device that isn't there, with the ones that are.
  /// @throws StateError     a launcher's environment that announces more than one rank.
  explicit Accelerator(const AcceleratorOptions& options = {});
  ~Accelerator();
  Accelerator(const Accelerator&) = delete;
  Accelerator& operator=(const Accelerator&) = delete;

  c10::Device device() const noexcept { return device_; }
  MixedPrecision mixed_precision() const noexcept { return mixed_precision_; }

  int rank() const noexcept { return communicator_->rank(); }
  int world_size() const noexcept { return communicator_->size(); }
  bool is_main_process() const noexcept { return rank() == 0; }
  Communicator& communicator() noexcept { return *communicator_; }

  /// Moves a module's parameters and buffers to the device, in place.
  void prepare(torch::nn::Module& module) const;

  /// A loader whose batches arrive on the device.
  std::unique_ptr<DataLoader> prepare(Dataset dataset, DataLoaderOptions options) const;

  /// The batch on the device: itself where it is there already.
  Batch to_device(const Batch& batch) const;

  /// Autocast for a scope, as the precision asks; hold it around forward and loss.
  [[nodiscard]] Autocast autocast() const { return Autocast(device_.type(), mixed_precision_); }

  /// Adds the gradients of one micro-batch to those of its window.
  ///
  /// With `only_own_parameters` no gradient arises outside `optimizer`'s parameters, as several
  /// optimizers over one graph want it.
  /// @throws ArgumentError  a loss without a value or a graph, or a negative weight.
  void backward(const Mean& loss, torch::optim::Optimizer& optimizer,
                const WindowPosition& position = {}, bool only_own_parameters = false);

  /// Whether `optimizer` has gradients of a window that no `step` has ended yet.
  bool has_open_window(const torch::optim::Optimizer& optimizer) const noexcept;

  /// Makes the gradients those of the window's mean loss; the first thing after the last backward.
  Gradients reduce_gradients(torch::optim::Optimizer& optimizer);

  /// The mean loss of the window whose gradients have just been reduced.
  double window_loss(const torch::optim::Optimizer& optimizer) const noexcept;

  /// Scales the gradients so that their total 2-norm is at most `max_norm`, if it is finite.
  /// @return the norm before, a scalar tensor on the device.
  /// @par Source  Pascanu et al. 2013 (arXiv:1211.5063), section 3.2.
  torch::Tensor clip_gradient_norm(torch::optim::Optimizer& optimizer, double max_norm) const;

  /// Clamps each gradient to [-max_value, max_value].
  void clip_gradient_value(torch::optim::Optimizer& optimizer, double max_value) const;

  /// Ends the window with an optimizer step, if its gradients are ready; reduces them before where
  /// that hasn't been done.
  /// @return whether the optimizer stepped.
  bool step(torch::optim::Optimizer& optimizer);

  /// Ends the window of an optimizer that stepped by itself; nothing where `step` has ended it.
  void end_window(const torch::optim::Optimizer& optimizer) noexcept;

  /// Ends the window without a step and zeroes what has been accumulated.
  void discard(torch::optim::Optimizer& optimizer);

  /// Forgets `optimizer`; it may be destroyed after that. Gradients stay as they are.
  void release(const torch::optim::Optimizer& optimizer) noexcept;

  /// The rows of all ranks' `tensor`s, in rank order.
  torch::Tensor gather(const torch::Tensor& tensor);

  /// The sum of all ranks' `tensor`s.
  torch::Tensor reduce(const torch::Tensor& tensor);

  /// Writes one line to stdout, from the main process only.
  void print(std::string_view line) const;

 private:
  struct Windows;

  c10::Device device_;
  MixedPrecision mixed_precision_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Windows> windows_;
};

}  // namespace torch_accelerated
