// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "accelerator/fused_step.h"
#include "accelerator/gradient_reducer.h"
#include "accelerator/gradient_window.h"
#include "accelerator/loss_scaler.h"
#include "accelerator/step_graphs.h"
#include "accelerator/word_copy.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace torch_accelerated {

/// The window of one optimizer.
struct Accelerator::Slot {
  Slot(Communicator* control, bool reads_losses) : window(control, reads_losses) {}

  GradientWindow window;
  std::optional<GradientReducer> reducer;  // with several ranks, or shards
  std::optional<Gradients> outcome;        // of the window in progress, once it is reduced
  GradientReducer::Order order;            // of the buckets of a run that goes on
  std::optional<LossScaler> scaler;        // with MixedPrecision::kFp16
  std::unique_ptr<FusedStep> fused_step;   // where the optimizer has one, and it may be used
  bool steps_by_flag = false;  // whether the last step was one that the device can leave out
  torch::Tensor word;          // of a window that is undecided, on the device
  torch::Tensor
      suppressed;  // (), float32, on the device: 1 where the window must not be stepped by
  std::unique_ptr<Pending> word_reduction;  // where `word` comes from, until it has been waited for

  void reopen() noexcept {
    outcome.reset();
    word.reset();
    suppressed.reset();
    word_reduction.reset();
    window.reopen();
  }
};

/// A window that has ended and whose verdict the host hasn't heard.
struct LateVerdict {
  const torch::optim::Optimizer* optimizer;
  bool by_flag;   // whether its optimizer's fused step has to hear of it
  WordCopy word;  // with whether the step was suppressed at its end
};

using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

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
  std::deque<LateVerdict> late;  // the oldest first
  bool had_update = false;
  std::unordered_map<torch::nn::Module*, std::weak_ptr<torch::nn::Module>> modules;  // prepared
  std::vector<WeakTensor> tensors;       // of the same modules
  std::optional<StepGraphs> graphs;      // with AcceleratorOptions::capture_graph
  RecordedStep* recording = nullptr;     // the step that is being recorded
  int updates_not_recorded = 0;          // as an optimizer or its gradients didn't allow it
  bool begun_by_graph = false;           // the window in progress
  std::int64_t recorded_reductions = 0;  // steps that end a window, the same on all ranks
};

}  // namespace torch_accelerated
