// SPDX-License-Identifier: Apache-2.0
// How a step is recorded, and where its device needs that, proved.
#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "accelerator/optimizer_tensors.h"
#include "accelerator/reduction.h"
#include "accelerator/same_bits.h"
#include "accelerator/step_graphs.h"
#include "base/text.h"
#include "core/gradient_of.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

[[noreturn]] void refuse_to_record(const std::string& what) {
  // LibTorch's errors go on with where they came from.
  throw ArgumentError(
      concat("capture_graph: the step can't be captured: ", what.substr(0, what.find('\n')),
             "; a captured step reads nothing back from the device, as item() and cpu() do, and "
             "makes no tensors whose size depends on their numbers; change that, or set "
             "capture_graph to false"));
}

void add_mean(std::vector<torch::Tensor>& tensors, const Mean& mean) {
  if (!mean.defined()) return;
  tensors.push_back(mean.numerator());
  if (!mean.is_over_rows()) tensors.push_back(mean.weight());
}

/// All of the memory that was there before `step` was recorded, but for what each recording has of
/// its own: the batch, and the host's numbers.
std::vector<torch::Tensor> memory_before(const RecordedStep& step, const HostNumbers& numbers) {
  std::vector<torch::Tensor> memory;
  for (const auto& storage : step.graph->outside()) {
    const bool is_own = numbers.are_in(storage) ||
                        std::any_of(step.inputs.begin(), step.inputs.end(), [&](const auto& input) {
                          return input.second.storage().is_alias_of(storage);
                        });
    if (!is_own) memory.push_back(torch::empty({0}, torch::kByte).set_(storage));
  }
  return memory;
}

/// All that `step` leaves behind, copied: `memory`, gradients, and what it returned.
std::vector<torch::Tensor> results_of(const RecordedStep& step, std::vector<torch::Tensor> memory) {
  auto tensors = std::move(memory);
  for (const auto& [parameter, gradient] : step.gradients) tensors.push_back(gradient);
  add_mean(tensors, step.output.loss);
  for (const auto& [name, value] : step.output.outputs) tensors.push_back(value);
  for (const auto& [name, mean] : step.output.scalars) add_mean(tensors, mean);
  for (auto& tensor : tensors) {
    if (tensor.defined()) tensor = tensor.detach().clone(at::MemoryFormat::Contiguous);
  }
  return tensors;
}

bool are_same(const torch::Tensor& a, const torch::Tensor& b) {
  return a.defined() && b.defined() ? have_same_bits(a, b) : a.defined() == b.defined();
}

}  // namespace

std::shared_ptr<RecordedStep> Accelerator::record(const Batch& batch,
                                                  const WindowPosition& position,
                                                  const CapturedStep& step) {
  struct Scope {
    Accelerator& accelerator;
    ~Scope() {
      accelerator.is_recording_ = false;
      accelerator.reduction_->recording = nullptr;
    }
  };
  auto recorded = std::make_shared<RecordedStep>();
  auto& device = reduction_->graphs->device();
  const bool is_done = device.is_done_while_recorded();
  recorded->is_proven = !is_done;
  for (const auto& [name, value] : batch) recorded->inputs.set(name, value.clone());
  if (position.is_last) ++reduction_->recorded_reductions;
  recorded->number = std::max<std::int64_t>(reduction_->recorded_reductions, 1);
  std::vector<std::pair<Slot*, GradientWindow::Progress>> before;
  for (auto& [optimizer, slot] : reduction_->slots) {
    before.emplace_back(&slot, slot.window.progress());
  }
  const Scope scope{*this};
  is_recording_ = true;
  reduction_->recording = recorded.get();
  try {
    recorded->graph = device.record([&] { recorded->output = step(recorded->inputs).detach(); });
    recorded->is_done = is_done;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const StateError& error) {
    refuse_to_record(error.what());
  } catch (const Error&) {
    throw;
  } catch (const CannotRecord& error) {
    refuse_to_record(error.what());
  } catch (const std::exception& error) {
    if (is_done) throw;  // as it would without being recorded
    refuse_to_record(error.what());
  }
  keep_gradients(position.is_last);
  // The replay that follows counts, for the device and for the host.
  for (const auto& [slot, progress] : before) slot->window.set_progress(progress);
  return recorded;
}

// Gradients are as the recorded step leaves them after each replay.
void Accelerator::keep_gradients(bool ends_window) {
  for (auto& [optimizer, slot] : reduction_->slots) {
    if (slot.reducer && !ends_window) {
      leave_to_replay(
          [&of = slot, has = slot.reducer->has_gradient()] { of.reducer->note_replay(has); });
      continue;
    }
    for (const auto& parameter : parameters_of(*optimizer)) {
      reduction_->recording->gradients.emplace_back(parameter, parameter.grad());
    }
  }
  leave_to_replay([&gradients = reduction_->recording->gradients] {
    for (const auto& [parameter, gradient] : gradients) {
      if (!gradient_of(parameter).is_same(gradient)) parameter.mutable_grad() = gradient;
    }
  });
}

// On the CPU a step may do what isn't recorded, such as writing through a pointer. So for the batch
// that comes after the recorded one a replay is compared, to the bit, with the step itself.
// @return the step as that run of it is recorded: replays of this recording write where the program
//         has been given tensors.
std::shared_ptr<RecordedStep> Accelerator::prove(RecordedStep& recorded, const Batch& batch,
                                                 const WindowPosition& position,
                                                 const CapturedStep& step) {
  // What the step finds of its modules counts as well, whether operations see it or not.
  auto& numbers = reduction_->graphs->numbers();
  auto memory = memory_before(recorded, numbers);
  for (const auto& tensor : reduction_->tensors) {
    if (const auto alive = tensor.lock()) memory.push_back(torch::Tensor(alive).detach());
  }
  const auto put_back = recorded.graph->kept();
  recorded.replay(batch, numbers);
  const auto replayed = results_of(recorded, memory);
  put_back();
  auto again = record(batch, position, step);
  const auto made = results_of(*again, memory);
  if (!std::equal(made.begin(), made.end(), replayed.begin(), replayed.end(), are_same)) {
    refuse_to_record(
        "for another batch than the recorded one it does something else than a replay, as it takes "
        "numbers from elsewhere than from tensors, or goes by them, or writes to memory otherwise "
        "than by LibTorch's operations");
  }
  again->is_proven = true;
  return again;
}

void Accelerator::leave_to_replay(std::function<void()> work) {
  reduction_->recording->on_replay.push_back(std::move(work));
}

}  // namespace torch_accelerated
