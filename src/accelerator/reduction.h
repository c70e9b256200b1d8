// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "accelerator/fused_step.h"
#include "accelerator/gradient_reducer.h"
#include "accelerator/gradient_window.h"
#include "accelerator/loss_scaler.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace torch_accelerated {

/// The window of one optimizer.
struct Accelerator::Slot {
  explicit Slot(Communicator* control) : window(control) {}

  GradientWindow window;
  std::optional<GradientReducer> reducer;  // with several ranks, or shards
  std::optional<Gradients> outcome;        // of the window in progress, once it is reduced
  GradientReducer::Order order;            // of the buckets of a run that goes on
  std::optional<LossScaler> scaler;        // with MixedPrecision::kFp16
  std::unique_ptr<FusedStep> fused_step;   // where the optimizer has one, and it may be used

  void reopen() noexcept {
    outcome.reset();
    window.reopen();
  }
};

/// What an Accelerator keeps between the micro-batches of a window and from one reduction to the
/// next.
struct Accelerator::Reduction {
  explicit Reduction(Communicator& gradients) : buffers(gradients) {}

  std::string name_of(const torch::Tensor& parameter) const;

  BufferPool buffers;
  std::map<const torch::optim::Optimizer*, Slot> slots;           // after what they give back to
  std::unordered_map<const c10::TensorImpl*, std::string> names;  // of prepared parameters
  std::atomic<unsigned> triggers{0};                              // that this rank has set
  std::vector<RankStatus> ranks;                                  // as of the last reduction
  std::shared_ptr<SyncBatchNormGroup> sync_batch_norm = std::make_shared<SyncBatchNormGroup>();
  bool had_update = false;
};

}  // namespace torch_accelerated
