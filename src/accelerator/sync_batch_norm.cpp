// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/sync_batch_norm.h"

#include <torch/torch.h>

#include "accelerator/sync_batch_norm_function.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

SyncBatchNormImpl::SyncBatchNormImpl(const torch::nn::BatchNormOptions& options_)
    : options(options_) {
  SyncBatchNormImpl::reset();
}

SyncBatchNormImpl::SyncBatchNormImpl(const torch::nn::BatchNormOptions& options_,
                                     const Tensors& tensors)
    : options(options_) {
  register_tensors(tensors);
}

void SyncBatchNormImpl::reset() {
  const auto channels = options.num_features();
  Tensors tensors;
  if (options.affine()) {
    tensors.weight = torch::ones({channels}).requires_grad_();
    tensors.bias = torch::zeros({channels}).requires_grad_();
  }
  if (options.track_running_stats()) {
    tensors.running_mean = torch::zeros({channels});
    tensors.running_var = torch::ones({channels});
    tensors.num_batches_tracked = torch::tensor(0, torch::kInt64);
  }
  register_tensors(tensors);
}

void SyncBatchNormImpl::register_tensors(const Tensors& tensors) {
  const auto trains = [](const torch::Tensor& tensor) {
    return tensor.defined() && tensor.requires_grad();
  };
  weight = register_parameter("weight", tensors.weight, trains(tensors.weight));
  bias = register_parameter("bias", tensors.bias, trains(tensors.bias));
  running_mean = register_buffer("running_mean", tensors.running_mean);
  running_var = register_buffer("running_var", tensors.running_var);
  num_batches_tracked = register_buffer("num_batches_tracked", tensors.num_batches_tracked);
}

void SyncBatchNormImpl::reset_running_stats() {
  if (!options.track_running_stats()) return;
  running_mean.zero_();
  running_var.fill_(1);
  num_batches_tracked.zero_();
}

void SyncBatchNormImpl::reset_parameters() {
  reset_running_stats();
  if (!options.affine()) return;
  torch::nn::init::ones_(weight);
  torch::nn::init::zeros_(bias);
}

void SyncBatchNormImpl::pretty_print(std::ostream& stream) const {
  const auto momentum = options.momentum();
  stream << concat("torch_accelerated::SyncBatchNorm(", options.num_features(),
                   ", eps=", options.eps(), ", momentum=", momentum ? concat(*momentum) : "None",
                   ", affine=", options.affine() ? "true" : "false",
                   ", track_running_stats=", options.track_running_stats() ? "true" : "false", ")");
}

void SyncBatchNormImpl::check_input(const torch::Tensor& input) const {
  if (input.dim() < 2 || input.size(1) != options.num_features()) {
    throw ArgumentError(concat("SyncBatchNorm: the input has shape ", input.sizes(),
                               ", expected (N, ", options.num_features(),
                               ", ...); num_features is the size of the second dimension"));
  }
  if (!input.is_floating_point()) {
    throw ArgumentError(concat("SyncBatchNorm: the input is ", input.dtype(),
                               ", expected floating point; convert it with to(torch::kFloat32)"));
  }
}

torch::Tensor SyncBatchNormImpl::forward(const torch::Tensor& input) {
  check_input(input);
  const bool together =
      is_training() && group_ && group_->communicator && group_->communicator->size() > 1;
  return together ? forward_together(input) : forward_alone(input);
}

// The weight of this batch in the running statistics.
double SyncBatchNormImpl::count_batch() {
  num_batches_tracked += 1;
  return options.momentum() ? *options.momentum() : 1.0 / num_batches_tracked.item<double>();
}

torch::Tensor SyncBatchNormImpl::forward_alone(const torch::Tensor& input) {
  const bool tracks = is_training() && options.track_running_stats();
  return torch::nn::functional::batch_norm(
      input, running_mean, running_var,
      torch::nn::functional::BatchNormFuncOptions()
          .weight(weight)
          .bias(bias)
          .training(is_training() || !options.track_running_stats())
          .momentum(tracks ? count_batch() : 0.0)
          .eps(options.eps()));
}

torch::Tensor SyncBatchNormImpl::forward_together(const torch::Tensor& input) {
  const auto [communicator, rows_count] = *group_;
  const auto batch = detail::normalise_over_ranks(input, options.eps(), *communicator, rows_count);
  if (options.track_running_stats()) {
    const torch::NoGradGuard no_grad;
    const double share = count_batch();
    running_mean.copy_(running_mean.to(torch::kFloat64) * (1 - share) + batch.mean * share);
    running_var.copy_(running_var.to(torch::kFloat64) * (1 - share) +
                      batch.unbiased_variance * share);
  }
  return detail::scale_normalised(input, weight, bias, batch, communicator, rows_count);
}

std::int64_t connect_sync_batch_norm(torch::nn::Module& module,
                                     const std::shared_ptr<SyncBatchNormGroup>& group) {
  std::int64_t count = 0;
  module.apply([&](torch::nn::Module& child) {
    if (auto* norm = child.as<SyncBatchNormImpl>()) {
      norm->set_group(group);
      ++count;
    }
  });
  return count;
}

}  // namespace torch_accelerated
