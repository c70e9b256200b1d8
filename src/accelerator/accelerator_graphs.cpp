// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded once and replayed, with AcceleratorOptions::capture_graph: which they
// are. How one is recorded stands in accelerator_recording.cpp.
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "accelerator/reduction.h"
#include "accelerator/step_graphs.h"
#include "base/text.h"
#include "core/gradient_of.h"
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

  // How far the window has come counts where it ends; before that, whether it begins.
  void add(const GradientWindow::Progress& progress, bool ends_window) {
    add(progress.expected_weight);
    add(ends_window ? progress.host.weight : 0.0);
    add(ends_window ? progress.micro_batches : std::min<std::int64_t>(progress.micro_batches, 1));
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

constexpr std::int64_t kPlain = 0;  // no recorded step has that number

// Whether its memory has one place, where a recorded step finds it.
bool is_plain(const torch::Tensor& tensor) {
  return tensor.defined() && tensor.layout() == torch::kStrided;
}

}  // namespace

void Accelerator::check_graphs() const {
  if (!options_.capture_graph) return;
  OptionCheck check("Accelerator");
  const auto why = [](const char* what) {
    return concat("capture_graph can't be had with ", what);
  };
  check.require(
      graph_device_maker(device_.type()) != nullptr,
      concat("capture_graph needs a library that was built with CUDA and its headers where "
             "the device is ",
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
  check.require(
      world_size() == 1 || options_.share_devices || world_.gradients->name() == "NCCL",
      why("gradients that don't go by NCCL, as those of several ranks on the CPU, or in a "
          "library without it, which are added up in the host's memory"));
  check.throw_if_any();
}

StepOutput Accelerator::captured(const void* owner, const Batch& batch,
                                 const WindowPosition& position, bool may_capture,
                                 const CapturedStep& step) {
  if (!reduction_->graphs) {
    reduction_->graphs.emplace(graph_device_maker(device_.type())(device_), device_);
  }
  auto& graphs = *reduction_->graphs;
  may_capture = may_capture && options_.verdicts != Verdicts::kAtOnce;
  graphs.keep_for(fixed_in_graphs());
  const auto key = may_capture ? graph_key(owner, batch, position) : std::string();
  auto recorded = key.empty() ? nullptr : graphs.find(key);
  const bool begins = std::none_of(reduction_->slots.begin(), reduction_->slots.end(),
                                   [](const auto& slot) { return slot.second.window.is_open(); });
  // Gradients lie in the same place from window to window where a recorded step has made them.
  const bool is_new = !recorded && !key.empty() && (begins || reduction_->begun_by_graph) &&
                      reason_not_recorded() == nullptr && graphs.wants(key);
  const auto next = reduction_->recorded_reductions + 1;
  const std::int64_t mine = recorded ? recorded->number : is_new ? next : kPlain;
  const auto agreed = agree_on_graph(position.is_last, mine);
  if (agreed != mine) {
    graphs.note_disagreement();
  } else if (mine != kPlain) {
    graphs.note_agreement();
  }
  StepOutput output;
  graphs.device().run([&] {
    if (agreed == mine && is_new) {
      graphs.add(key, recorded = record(batch, position, step));
    } else if (agreed != mine) {
      recorded = nullptr;
    } else if (recorded && !recorded->is_proven) {
      graphs.add(key, recorded = prove(*recorded, batch, position, step));
    }
    output = recorded ? recorded->replay(batch, graphs.numbers()) : step(batch);
  });
  if (agreed > mine) graphs.drop(key);  // another rank has lost its part of it, or never had one
  if (begins) reduction_->begun_by_graph = recorded != nullptr;
  if (recorded) {
    for (const auto& work : recorded->on_replay) work();
  } else if (!key.empty()) {
    note_plain_step(key, position.is_last);
  }
  return output;
}

// What NCCL records belongs together on all ranks: at a window's end all replay what they have
// recorded together, or none does.
// @return `graph` where it is every rank's, else one that isn't: the newest of all, or kPlain.
std::int64_t Accelerator::agree_on_graph(bool ends_window, std::int64_t graph) {
  if (world_size() == 1 || !ends_window) return graph;
  auto lowest = graph;
  auto highest = graph;
  for (const auto& part : world_.control->all_gather(torch::full({1}, graph, torch::kInt64))) {
    lowest = std::min(lowest, part.const_data_ptr<std::int64_t>()[0]);
    highest = std::max(highest, part.const_data_ptr<std::int64_t>()[0]);
  }
  return highest > graph ? highest : lowest;
}

// What a recorded step would not notice: that it is another step now.
std::vector<std::uint64_t> Accelerator::fixed_in_graphs() const {
  std::vector<std::uint64_t> fixed;
  for (const auto& [key, module] : reduction_->modules) {
    const auto alive = module.lock();
    fixed.push_back(alive ? 1 + static_cast<std::uint64_t>(alive->is_training()) : 0);
  }
  for (const auto& tensor : reduction_->tensors) {
    const auto alive = tensor.lock();
    const bool has_place = alive && alive->has_storage();
    fixed.push_back(has_place ? reinterpret_cast<std::uintptr_t>(alive->data()) : 0);
  }
  for (const auto& [optimizer, slot] : reduction_->slots) {
    if (slot.fused_step) slot.fused_step->add_fixed(fixed);
  }
  return fixed;
}

// Empty where the step can't be recorded.
std::string Accelerator::graph_key(const void* owner, const Batch& batch,
                                   const WindowPosition& position) const {
  Key key;
  key.add(reinterpret_cast<std::uintptr_t>(owner));
  for (const auto& [name, value] : batch) {
    if (!is_plain(value)) return {};
    key.add(name);
    key.add(value);
  }
  key.add(position);
  for (const auto& [optimizer, slot] : reduction_->slots) {
    key.add(slot.window.progress(), position.is_last);
    // A backward adds to gradients where they lie.
    for (const auto& group : optimizer->param_groups()) {
      for (const auto& parameter : group.params()) {
        const auto& gradient = gradient_of(parameter);
        if (gradient.defined() && !is_plain(gradient)) return {};
        key.add(gradient.defined() ? reinterpret_cast<std::uintptr_t>(gradient.const_data_ptr())
                                   : 0);
      }
    }
  }
  return key.bytes();
}

// A recorded update is undecided for the host, and that has to have been so once.
const char* Accelerator::reason_not_recorded() const {
  for (const auto& [optimizer, slot] : reduction_->slots) {
    if (!slot.steps_by_flag) {
      return "an optimizer of this Accelerator hasn't stepped through LibTorch's fused kernels";
    }
    if (slot.reducer && slot.reducer->lacked_any()) {
      return "a parameter got no gradient on this rank, which has to ask the others for theirs";
    }
  }
  return nullptr;
}

void Accelerator::note_plain_step(const std::string& key, bool ends_window) {
  auto& graphs = *reduction_->graphs;
  const auto* reason = reason_not_recorded();
  if (!ends_window || reason == nullptr) return graphs.see(key);
  // The first updates of a run show what is possible.
  if (++reduction_->updates_not_recorded == 4) graphs.warn(reason);
}

void Accelerator::forget_graphs() noexcept {
  if (reduction_->graphs) reduction_->graphs->forget();
  reduction_->updates_not_recorded = 0;
}

}  // namespace torch_accelerated
