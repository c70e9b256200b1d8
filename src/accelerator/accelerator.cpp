// SPDX-License-Identifier: Apache-2.0
// Where a step runs, and how micro-batches become an update.
#include "torch_accelerated/accelerator/accelerator.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "accelerator/channels_last.h"
#include "accelerator/device.h"
#include "accelerator/host_memory.h"
#include "accelerator/optimizer_tensors.h"
#include "accelerator/reduction.h"
#include "accelerator/threads.h"
#include "accelerator/zero_grad.h"
#include "base/text.h"
#include "distributed/contract.h"
#include "distributed/device_communicator.h"
#include "distributed/queued_communicator.h"
#include "distributed/staged_communicator.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::vector<torch::Tensor> gradients_of(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> gradients;
  for (const auto& parameter : parameters_of(optimizer)) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

// What decides how ranks reduce has to be the same before any of them acts on it.
void check_options(const AcceleratorOptions& options, c10::Device device, Communicator& control) {
  Contract contract("Accelerator");
  contract.add("device type", concat(device.type()));
  contract.add("mixed_precision", to_string(options.mixed_precision));
  if (options.mixed_precision == MixedPrecision::kFp16) {
    const auto& scaling = options.loss_scaling;
    contract.add(
        "loss_scaling",
        concat(exact_text(scaling.initial_scale), " x ", exact_text(scaling.growth_factor),
               " after ", scaling.growth_interval, ", x ", exact_text(scaling.backoff_factor),
               " down to ", exact_text(scaling.minimum_scale), ", ", scaling.skips_at_minimum,
               " skips"));
  }
  contract.add("gradient_compression", to_string(options.gradient_compression));
  contract.add("channels_last", options.channels_last ? "yes" : "no");
  contract.add("fused_optimizers", options.fused_optimizers ? "yes" : "no");
  contract.add("capture_graph", options.capture_graph ? "yes" : "no");
  contract.add("verdicts", concat(static_cast<int>(options.verdicts)));
  contract.add("share_devices", options.share_devices ? "yes" : "no");
  contract.add("bucket_bytes", concat(options.bucket_bytes));
  contract.add("overlap", concat(static_cast<int>(options.overlap)));
  contract.add("unused_parameters", concat(static_cast<int>(options.unused_parameters)));
  contract.check(control);
}

}  // namespace

std::string Accelerator::Reduction::name_of(const torch::Tensor& parameter) const {
  const auto known = names.find(parameter.unsafeGetTensorImpl());
  return known != names.end() ? known->second : concat("of shape ", parameter.sizes());
}

Accelerator::Accelerator(const AcceleratorOptions& options)
    : Accelerator(make_world({.start_timeout = std::max(options.first_timeout, options.timeout)}),
                  options) {}

Accelerator::Accelerator(World world, const AcceleratorOptions& options)
    : world_(std::move(world)), options_(options), device_(c10::kCPU) {
  const auto be_patient = [&] {
    for (auto* communicator : {world_.gradients.get(), world_.control.get()}) {
      communicator->set_timeout(std::max(options.first_timeout, options.timeout));
    }
  };
  be_patient();
  together("Accelerator", [&] {
    OptionCheck check("Accelerator");
    if (mixed_precision() == MixedPrecision::kFp16) {
      check_loss_scaling(check, options.loss_scaling);
    }
    check.throw_if_any();
    device_ = resolve_device(options.device, world_, options.share_devices);
  });
  if (world_size() > 1) {
    check_options(options, device_, *world_.control);
    choose_communicators();
    be_patient();
  }
  together("Accelerator", [&] { check_graphs(); });
  // As with threads: not for a program that has its own way with the process.
  keeps_host_memory_ =
      options_.keep_host_memory && device_.is_cpu() && !world_.is_callers && keep_freed_memory();
  reduction_ = std::make_unique<Reduction>(*world_.gradients);
}

Accelerator::~Accelerator() = default;

// What was asked becomes what will happen.
void Accelerator::choose_communicators() {
  if (!world_.is_callers) share_out_threads(world_.local_size);
  auto& overlap = options_.overlap;
  if (device_.is_cuda()) {
    if (!options_.share_devices) check_devices(device_, world_);
    // Gradients by NCCL, or by way of the host's memory; everything else by the latter.
    world_.gradients = make_device_communicator(*world_.gradients, device_, options_.share_devices);
    world_.control = make_staged_communicator(std::move(world_.control));
    if (overlap == Overlap::kAuto) overlap = Overlap::kOn;
    return;
  }
  if (overlap == Overlap::kAuto) {
    const bool pays = world_.allows_threads && has_spare_core(world_.local_size);
    overlap = any(!pays) ? Overlap::kOff : Overlap::kOn;  // one way for all ranks
  }
  if (overlap == Overlap::kOn && world_.allows_threads) {
    world_.gradients = make_queued_communicator(std::move(world_.gradients));
  }
}

std::unique_ptr<DataLoader> Accelerator::prepare(Dataset dataset, DataLoaderOptions options) const {
  options.device = device_;
  if (options.is_shared) {
    options.rank = rank();
    options.world_size = world_size();
  }
  return std::make_unique<DataLoader>(std::move(dataset), options);
}

void Accelerator::prepare(torch::optim::Optimizer& optimizer) {
  auto& fused_step = slot_of(optimizer).fused_step;
  fused_step = options_.fused_optimizers ? make_fused_step(optimizer) : nullptr;
  forget_graphs();
  if (!options_.capture_graph || fused_step) return;
  throw ArgumentError(
      "prepare: capture_graph needs optimizers that step through fused kernels; give exactly a "
      "torch::optim::SGD, Adam or AdamW, no class that is derived from them, or set capture_graph "
      "to false");
}

std::string Accelerator::step_description(const torch::optim::Optimizer& optimizer) const {
  const auto slot = reduction_->slots.find(&optimizer);
  if (slot == reduction_->slots.end() || !slot->second.fused_step) return "plain";
  return options_.capture_graph ? "fused, captured" : "fused";
}

Batch Accelerator::to_device(Batch batch) const {
  for (const auto& [name, value] : batch) {
    if (!value.defined() || value.device() == device_) continue;
    // Towards the CPU nothing would wait for the copy.
    batch = batch.to(device_, /*non_blocking=*/!device_.is_cpu());
    break;
  }
  if (options_.channels_last) return in_channels_last(std::move(batch));
  return batch;
}

Accelerator::Slot& Accelerator::slot_of(const torch::optim::Optimizer& optimizer) {
  auto* control = world_size() > 1 ? world_.control.get() : nullptr;
  const auto [slot, is_new] =
      reduction_->slots.try_emplace(&optimizer, control, !options_.capture_graph);
  if (is_new && mixed_precision() == MixedPrecision::kFp16) {
    slot->second.scaler.emplace(options_.loss_scaling, device_);
  }
  return slot->second;
}

// Gradients of a window that begins go into buckets where they will be reduced.
void Accelerator::begin_window(Slot& slot, torch::optim::Optimizer& optimizer, bool is_shard) {
  slot.outcome.reset();
  if (slot.window.is_open() || (world_size() == 1 && !is_shard)) return;
  auto parameters = parameters_of(optimizer);
  if (!slot.reducer || !slot.reducer->is_of(parameters)) {
    slot.reducer.reset();
    slot.reducer.emplace(
        std::move(parameters), *world_.gradients, reduction_->buffers, options_,
        [this](const torch::Tensor& p) { return reduction_->name_of(p); },
        std::exchange(slot.order, {}));
  }
  slot.reducer->begin_window();
}

void Accelerator::backward(const Mean& loss, torch::optim::Optimizer& optimizer,
                           const WindowPosition& position, bool only_own_parameters) {
  if (!loss.defined()) {
    throw ArgumentError("backward: the loss has no value; give a scalar tensor or a Mean");
  }
  auto& slot = slot_of(optimizer);
  const auto before = slot.window.progress();
  begin_window(slot, optimizer, position.is_shard);
  if (slot.reducer && position.is_last && !position.is_shard) slot.reducer->begin_last_backward();
  slot.window.backward(loss, position,
                       only_own_parameters ? std::optional(parameters_of(optimizer)) : std::nullopt,
                       slot.scaler ? &*slot.scaler : nullptr);
  if (position.is_shard) slot.reducer->end_shard();
  if (is_recording_) {
    leave_to_replay(
        [&slot, before, after = slot.window.progress()] { slot.window.advance(before, after); });
  }
}

void Accelerator::skip_backward(torch::optim::Optimizer& optimizer,
                                const WindowPosition& position) {
  auto& slot = slot_of(optimizer);
  begin_window(slot, optimizer, position.is_shard);
  slot.window.skip(position);
  if (position.is_shard) slot.reducer->end_shard();
}

bool Accelerator::has_open_window(const torch::optim::Optimizer& optimizer) const noexcept {
  const auto slot = reduction_->slots.find(&optimizer);
  return slot != reduction_->slots.end() && slot->second.window.is_open();
}

// Ranks that start are slower than ranks that run.
void Accelerator::end_first_update() {
  if (std::exchange(reduction_->had_update, true)) return;
  world_.gradients->set_timeout(options_.timeout);
  world_.control->set_timeout(options_.timeout);
  if (auto& layers = reduction_->sync_batch_norm->communicator)
    layers->set_timeout(options_.timeout);
}

State Accelerator::window_state(const torch::optim::Optimizer& optimizer) const {
  const auto slot = reduction_->slots.find(&optimizer);
  if (slot == reduction_->slots.end()) return {};
  auto state = slot->second.window.expected().state();
  if (const auto& scaler = slot->second.scaler) state.set_part("loss_scaler", scaler->state());
  const auto& reducer = slot->second.reducer;
  const auto& order = reducer ? reducer->order() : slot->second.order;
  if (!order.empty()) state.set("bucket_order", std::vector<double>(order.begin(), order.end()));
  return state;
}

void Accelerator::load_window_state(const torch::optim::Optimizer& optimizer, const State& state) {
  auto& slot = slot_of(optimizer);
  slot.window.expected().load_state(state);
  if (slot.scaler && state.contains("loss_scaler/scale")) {
    slot.scaler->load_state(state.part("loss_scaler"));
  }
  forget_graphs();
  slot.reducer.reset();
  slot.order.clear();
  if (!state.contains("bucket_order")) return;
  const auto& order = state.get<std::vector<double>>("bucket_order");
  for (const double index : order) {
    if (!(index >= 0 && index < static_cast<double>(order.size()))) {
      throw StateError(concat("the window's bucket_order has ", index,
                              ", expected numbers from 0 to ", order.size() - 1));
    }
    slot.order.push_back(static_cast<std::size_t>(index));
  }
}

double Accelerator::window_loss(const torch::optim::Optimizer& optimizer) const noexcept {
  const auto slot = reduction_->slots.find(&optimizer);
  return slot == reduction_->slots.end() ? 0.0 : slot->second.window.loss();
}

double Accelerator::loss_scale(const torch::optim::Optimizer& optimizer) const {
  const auto slot = reduction_->slots.find(&optimizer);
  const bool is_scaled = slot != reduction_->slots.end() && slot->second.scaler;
  return is_scaled ? slot->second.scaler->scale() : 1.0;
}

torch::Tensor Accelerator::gradient_norm(torch::optim::Optimizer& optimizer) const {
  const torch::NoGradGuard no_grad;
  const auto gradients = gradients_of(optimizer);
  if (gradients.empty()) return torch::zeros({}, torch::TensorOptions().device(device_));
  return torch::stack(torch::_foreach_norm(gradients, 2)).norm(2);
}

torch::Tensor Accelerator::clip_gradient_norm(torch::optim::Optimizer& optimizer,
                                              double max_norm) const {
  const torch::NoGradGuard no_grad;
  auto gradients = gradients_of(optimizer);
  const auto norm = gradient_norm(optimizer);
  if (gradients.empty()) return norm;
  // As PyTorch does: 1e-6 keeps the quotient finite, and a factor of 1 changes no bit.
  const auto factor = (max_norm / (norm + 1e-6)).clamp_max(1.0);
  const auto safe = torch::where(torch::isfinite(norm), factor, torch::ones_like(factor));
  torch::_foreach_mul_(gradients, safe);
  return norm;
}

void Accelerator::clip_gradient_value(torch::optim::Optimizer& optimizer, double max_value) const {
  const torch::NoGradGuard no_grad;
  for (auto& gradient : gradients_of(optimizer)) gradient.clamp_(-max_value, max_value);
}

void Accelerator::discard(torch::optim::Optimizer& optimizer) {
  end_window(optimizer);
  zero_grad(optimizer);
}

void Accelerator::release(const torch::optim::Optimizer& optimizer) noexcept {
  std::erase_if(reduction_->late, [&](const auto& late) { return late.optimizer == &optimizer; });
  forget_graphs();
  // Not kept for later: which optimizer stands where in memory differs between ranks.
  reduction_->slots.erase(&optimizer);
}

}  // namespace torch_accelerated
