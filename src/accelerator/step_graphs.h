// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "accelerator/device_graph.h"
#include "accelerator/host_numbers.h"
#include "torch_accelerated/core/step_output.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// The step of a micro-batch that has been recorded.
struct RecordedStep {
  Batch inputs;                                              ///< which it reads
  StepOutput output;                                         ///< which it writes
  std::vector<std::function<void()>> on_replay;              ///< what the host does each time
  std::vector<std::pair<at::Tensor, at::Tensor>> gradients;  ///< of parameters, where it leaves any
  std::unique_ptr<DeviceGraph> graph;
  bool is_proven = false;   ///< where its device needs that: that a replay does what the step does
  bool is_done = false;     ///< what the next replay is to do, by the recording
  std::int64_t number = 0;  ///< of those recorded so far, the same on all ranks where it reduces

  /// Has the device do the step on `batch`.
  /// @return the output; its loss and scalars stay as they are at the next replay.
  StepOutput replay(const Batch& batch, HostNumbers& numbers);
};

/// Steps that have been recorded, by what tells one from another.
class StepGraphs {
 public:
  StepGraphs(std::unique_ptr<GraphDevice> device, c10::Device where);

  GraphDevice& device() noexcept { return *device_; }
  HostNumbers& numbers() noexcept { return numbers_; }

  /// Forgets all steps where `fixed`, which none of them would notice, isn't what it was.
  void keep_for(std::vector<std::uint64_t> fixed);

  /// The step that was recorded for `key`; null where there is none.
  std::shared_ptr<RecordedStep> find(const std::string& key) const;

  /// Whether a step for `key` could be recorded: it has been seen before, when it made what it
  /// needs once, and there are not too many.
  bool wants(const std::string& key);

  /// Takes note of a step that ran as it is, and could have been recorded.
  void see(const std::string& key);

  void add(const std::string& key, std::shared_ptr<RecordedStep> step);

  void drop(const std::string& key) { steps_.erase(key); }

  /// Takes note of steps that ranks would have replayed, but for one that has none recorded for its
  /// own; says so in the log when it goes on.
  void note_disagreement();
  void note_agreement() noexcept { disagreements_ = 0; }

  /// Says in the log why steps go on without being recorded, once.
  void warn(const std::string& reason);

  void forget() noexcept;

 private:
  std::unique_ptr<GraphDevice> device_;
  HostNumbers numbers_;
  std::vector<std::uint64_t> fixed_;
  std::set<std::string> seen_;
  std::map<std::string, std::shared_ptr<RecordedStep>> steps_;
  int changes_ = 0;        // of `fixed_`
  int disagreements_ = 0;  // without an agreement between them
  bool has_warned_ = false;
};

}  // namespace torch_accelerated
