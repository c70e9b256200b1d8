// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/accelerator.h"

#include <torch/torch.h>

#include <cmath>
#include <cstdio>
#include <unordered_map>

#include "accelerator/device.h"
#include "accelerator/gradient_window.h"
#include "accelerator/launcher.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::vector<torch::Tensor> parameters_of(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> parameters;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      if (parameter.requires_grad()) parameters.push_back(parameter);
    }
  }
  return parameters;
}

std::vector<torch::Tensor> gradients_of(const torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> gradients;
  for (const auto& parameter : parameters_of(optimizer)) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

}  // namespace

struct Accelerator::Windows {
  struct Slot {
    GradientWindow window;
    std::optional<Gradients> reduced;

    void reopen() noexcept {
      reduced.reset();
      window.reopen();
    }
  };
  std::unordered_map<const torch::optim::Optimizer*, Slot> slots;
};

Accelerator::Accelerator(const AcceleratorOptions& options)
    : device_(resolve_device(options.device)),
      mixed_precision_(options.mixed_precision),
      communicator_(make_self_communicator()),
      windows_(std::make_unique<Windows>()) {
  check_single_process();
}

Accelerator::~Accelerator() = default;

void Accelerator::prepare(torch::nn::Module& module) const { module.to(device_); }

std::unique_ptr<DataLoader> Accelerator::prepare(Dataset dataset, DataLoaderOptions options) const {
  options.device = device_;
  return std::make_unique<DataLoader>(std::move(dataset), options);
}

Batch Accelerator::to_device(const Batch& batch) const {
  for (const auto& [name, value] : batch) {
    if (value.defined() && value.device() != device_) {
      // Towards the CPU nothing would wait for the copy.
      return batch.to(device_, /*non_blocking=*/!device_.is_cpu());
    }
  }
  return batch;
}

void Accelerator::backward(const Mean& loss, torch::optim::Optimizer& optimizer,
                           const WindowPosition& position, bool only_own_parameters) {
  if (!loss.defined()) {
    throw ArgumentError("backward: the loss has no value; give a scalar tensor or a Mean");
  }
  auto& slot = windows_->slots[&optimizer];
  slot.reduced.reset();
  slot.window.backward(
      loss, position, only_own_parameters ? std::optional(parameters_of(optimizer)) : std::nullopt);
}

bool Accelerator::has_open_window(const torch::optim::Optimizer& optimizer) const noexcept {
  const auto slot = windows_->slots.find(&optimizer);
  return slot != windows_->slots.end() && slot->second.window.is_open();
}

Gradients Accelerator::reduce_gradients(torch::optim::Optimizer& optimizer) {
  auto& slot = windows_->slots[&optimizer];
  if (!slot.reduced) slot.reduced = slot.window.close(optimizer);
  return *slot.reduced;
}

double Accelerator::window_loss(const torch::optim::Optimizer& optimizer) const noexcept {
  const auto slot = windows_->slots.find(&optimizer);
  return slot == windows_->slots.end() ? 0.0 : slot->second.window.loss();
}

torch::Tensor Accelerator::clip_gradient_norm(torch::optim::Optimizer& optimizer,
                                              double max_norm) const {
  const torch::NoGradGuard no_grad;
  auto gradients = gradients_of(optimizer);
  if (gradients.empty()) return torch::zeros({}, torch::TensorOptions().device(device_));
  const auto norm = torch::stack(torch::_foreach_norm(gradients, 2)).norm(2);
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

bool Accelerator::step(torch::optim::Optimizer& optimizer) {
  const bool ready = reduce_gradients(optimizer) == Gradients::kReady;
  if (ready) optimizer.step();
  windows_->slots[&optimizer].reopen();
  return ready;
}

void Accelerator::end_window(const torch::optim::Optimizer& optimizer) noexcept {
  const auto slot = windows_->slots.find(&optimizer);
  if (slot != windows_->slots.end()) slot->second.reopen();
}

void Accelerator::discard(torch::optim::Optimizer& optimizer) {
  windows_->slots[&optimizer].reopen();
  optimizer.zero_grad();
}

void Accelerator::release(const torch::optim::Optimizer& optimizer) noexcept {
  windows_->slots.erase(&optimizer);
}

torch::Tensor Accelerator::gather(const torch::Tensor& tensor) {
  const auto parts = communicator_->all_gather(tensor);
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

torch::Tensor Accelerator::reduce(const torch::Tensor& tensor) {
  std::array<torch::Tensor, 1> sums{tensor.clone()};
  communicator_->all_reduce(sums);
  return sums.front();
}

void Accelerator::print(std::string_view line) const {
  if (!is_main_process()) return;
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

}  // namespace torch_accelerated
