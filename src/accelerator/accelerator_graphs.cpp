// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded once and replayed, with AcceleratorOptions::capture_graph.
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "accelerator/optimizer_tensors.h"
#include "accelerator/reduction.h"
#include "accelerator/step_graphs.h"
#include "base/text.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

/// Tells steps apart: bytes that are equal where a recorded step may be replayed for another.
class Key {
 public:
  template <class Number>
  void add(Number number) {
    static_assert(std::is_arithmetic_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }

  void add(const torch::Tensor& tensor) {
    add(static_cast<int>(tensor.scalar_type()));
    add(tensor.dim());
    for (const auto size : tensor.sizes()) add(size);
    for (const auto stride : tensor.strides()) add(stride);
  }

  void add(const WindowPosition& position) {
    add(position.rows);
    add(position.window_rows.value_or(-1));
    add(position.micro_batches);
    add(position.is_last);
    add(position.is_borrowed);
  }

  void add(const GradientWindow::Progress& progress) {
    add(progress.host.loss);
    add(progress.host.weight);
    add(progress.expected_weight);
    add(progress.micro_batches);
    add(progress.has_backward);
    add(progress.knows_rows);
    add(progress.adds_loss);
    add(progress.adds_weight);
  }

  void add(const std::string& text) {
    add(text.size());
    bytes_ += text;
  }

  const std::string& bytes() const noexcept { return bytes_; }

 private:
  std::string bytes_;
};

// The first line, which says what happened; LibTorch's errors go on with where.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

void Accelerator::check_graphs() const {
  if (!options_.capture_graph) return;
  OptionCheck check("Accelerator");
  const auto why = [](const char* what) {
    return concat("capture_graph can't be had with ", what);
  };
  check.require(graph_device_maker(device_.type()) != nullptr,
                concat("capture_graph needs CUDA, and a library that was built with it and its "
                       "headers; the device is ",
                       device_));
  check.require(mixed_precision() != MixedPrecision::kFp16,
                why("MixedPrecision::kFp16, whose flag is read in each update; kBf16 has none"));
  check.require(options_.fused_optimizers, why("fused_optimizers = false"));
  check.require(options_.verdicts != Verdicts::kAtOnce,
                why("Verdicts::kAtOnce, for which the host waits in each update"));
  check.require(options_.unused_parameters != UnusedParameters::kError,
                why("UnusedParameters::kError, for which the host waits in each update"));
  check.require(options_.gradient_compression != GradientCompression::kFp16,
                why("gradients compressed to fp16, whose overflows are looked for in each update"));
  check.require(!options_.share_devices,
                why("share_devices, which adds gradients up in the host's memory"));
  check.require(world_size() == 1 || options_.share_devices || world_.gradients->name() == "NCCL",
                why("gradients that don't go by NCCL, as a library without it adds them up in the "
                    "host's memory"));
  check.throw_if_any();
}

StepOutput Accelerator::captured(const Batch& batch, const WindowPosition& position,
                                 const CapturedStep& step) {
  if (!options_.capture_graph || options_.verdicts == Verdicts::kAtOnce) return step(batch);
  if (!reduction_->graphs) {
    reduction_->graphs.emplace(graph_device_maker(device_.type())(device_), device_);
  }
  auto& graphs = *reduction_->graphs;
  graphs.keep_for(fixed_in_graphs());
  const auto key = graph_key(batch, position);
  const RecordedStep* recorded = graphs.find(key);
  StepOutput output;
  graphs.device().run([&] {
    if (recorded == nullptr && may_record(position) && graphs.wants(key)) {
      recorded = &graphs.add(key, record(batch, position, step));
    }
    output = recorded != nullptr ? recorded->replay(batch, graphs.numbers()) : step(batch);
  });
  if (recorded == nullptr) return output;
  for (const auto& work : recorded->on_replay) work();
  return output;
}

void Accelerator::leave_to_replay(std::function<void()> work) {
  reduction_->recording->on_replay.push_back(std::move(work));
}

// What a recorded step would not notice: that it is another step now.
std::vector<std::uint64_t> Accelerator::fixed_in_graphs() const {
  std::vector<std::uint64_t> fixed;
  for (const auto& [key, module] : reduction_->modules) {
    const auto alive = module.lock();
    fixed.push_back(alive ? 1 + static_cast<std::uint64_t>(alive->is_training()) : 0);
  }
  for (const auto& [optimizer, slot] : reduction_->slots) {
    if (slot.fused_step) slot.fused_step->add_fixed(fixed);
  }
  return fixed;
}

std::string Accelerator::graph_key(const Batch& batch, const WindowPosition& position) const {
  Key key;
  for (const auto& [name, value] : batch) {
    key.add(name);
    key.add(value);
  }
  key.add(position);
  for (const auto& [optimizer, slot] : reduction_->slots) {
    key.add(slot.window.progress());
    // A backward adds to gradients where they lie.
    for (const auto& parameter : parameters_of(*optimizer)) {
      const auto& gradient = parameter.grad();
      key.add(gradient.defined() ? reinterpret_cast<std::uintptr_t>(gradient.const_data_ptr()) : 0);
    }
  }
  return key.bytes();
}

// A recorded update is undecided for the host, and that has to have been so once.
bool Accelerator::may_record(const WindowPosition& position) {
  if (position.is_borrowed || position.rows == 0) return false;
  const char* reason = nullptr;
  for (const auto& [optimizer, slot] : reduction_->slots) {
    if (!slot.steps_by_flag) reason = "an optimizer didn't step through its fused kernels";
    if (slot.reducer && slot.reducer->lacked_any()) {
      reason = "a parameter got no gradient on this rank, which has to ask the others for theirs";
    }
  }
  if (reason == nullptr) return true;
  // The first updates of a run show what is possible.
  if (position.is_last && ++reduction_->updates_not_recorded == 4) reduction_->graphs->warn(reason);
  return false;
}

RecordedStep Accelerator::record(const Batch& batch, const WindowPosition& position,
                                 const CapturedStep& step) {
  struct Scope {
    Accelerator& accelerator;
    ~Scope() {
      accelerator.is_recording_ = false;
      accelerator.reduction_->recording = nullptr;
    }
  };
  RecordedStep recorded;
  for (const auto& [name, value] : batch) recorded.inputs.set(name, value.clone());
  const Scope scope{*this};
  is_recording_ = true;
  reduction_->recording = &recorded;
  try {
    recorded.graph = reduction_->graphs->device().record(
        [&] { recorded.output = step(recorded.inputs).detach(); });
  } catch (const CommunicationError&) {
    throw;
  } catch (const std::exception& error) {
    throw ArgumentError(
        concat("capture_graph: the step can't be captured: ", first_line(error.what()),
               "; a captured step reads nothing back from the device, as item() and cpu() do, and "
               "makes no tensors whose size depends on their numbers; change that, or set "
               "capture_graph to false"));
  }
  keep_gradients(position.is_last);
  return recorded;
}

// Gradients are as the recorded step leaves them after each replay.
void Accelerator::keep_gradients(bool ends_window) {
  for (auto& [optimizer, slot] : reduction_->slots) {
    if (slot.reducer && !ends_window) {
      leave_to_replay(
          [&slot = slot, has = slot.reducer->has_gradient()] { slot.reducer->note_replay(has); });
      continue;
    }
    std::vector<std::pair<torch::Tensor, torch::Tensor>> gradients;
    for (const auto& parameter : parameters_of(*optimizer)) {
      gradients.emplace_back(parameter, parameter.grad());
    }
    leave_to_replay([gradients = std::move(gradients)] {
      for (const auto& [parameter, gradient] : gradients) {
        if (!parameter.grad().is_same(gradient)) parameter.mutable_grad() = gradient;
      }
    });
  }
}

void Accelerator::forget_graphs() noexcept {
  if (reduction_->graphs) reduction_->graphs->forget();
  reduction_->updates_not_recorded = 0;
}

}  // namespace torch_accelerated
