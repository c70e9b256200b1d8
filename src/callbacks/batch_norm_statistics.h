// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <optional>
#include <vector>

#include "torch_accelerated/data/dataset.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {

/// The BatchNorm layers of a module, SyncBatchNorms included, that keep running statistics.
class BatchNormStatistics {
 public:
  explicit BatchNormStatistics(const torch::nn::Module& module);

  bool empty() const noexcept { return layers_.empty(); }

  /// Makes the running statistics the plain mean of those of `dataset`'s batches, which the
  /// Trainer's model is run over, without gradients and with these layers alone in train mode: no
  /// random numbers are drawn. All ranks run over the whole dataset, so that there is nothing to
  /// join. Collective.
  void recompute(const Trainer& trainer, const Dataset& dataset, std::int64_t batch_size);

 private:
  struct Layer {
    torch::nn::Module* module;
    std::optional<double>* momentum;
    torch::Tensor mean, variance, batches;
  };

  template <class Norm>
  bool note(torch::nn::Module& part);
  void begin();
  void run_over(const Trainer& trainer, const Dataset& dataset, std::int64_t batch_size);

  std::vector<Layer> layers_;
};

}  // namespace torch_accelerated
