// SPDX-License-Identifier: Apache-2.0
#include "accelerator/fused_call.h"

#include "core/gradient_of.h"

namespace torch_accelerated {

FusedCall& FusedCalls::of(std::int64_t step, const at::Tensor& parameter) {
  for (auto& call : all()) {
    const auto& like = call.parameters.front();
    if (call.step == step && like.scalar_type() == parameter.scalar_type() &&
        like.device() == parameter.device()) {
      return call;
    }
  }
  if (used_ == calls_.size()) calls_.emplace_back();
  calls_[used_].step = step;
  return calls_[used_++];
}

void FusedCalls::clear() noexcept {
  for (auto& call : all()) {
    for (auto* tensors :
         {&call.parameters, &call.gradients, &call.first, &call.second, &call.largest}) {
      tensors->clear();
    }
  }
  used_ = 0;
}

bool lies_alike(const at::Tensor& other, const at::Tensor& parameter) {
  if (!other.defined() || other.layout() != at::kStrided ||
      other.scalar_type() != parameter.scalar_type() || other.device() != parameter.device() ||
      other.sizes() != parameter.sizes()) {
    return false;
  }
  return other.strides() == parameter.strides() ||
         (other.is_contiguous() && parameter.is_contiguous());
}

bool lay_out_alike(at::Tensor& kept, const at::Tensor& parameter) {
  if (lies_alike(kept, parameter)) return true;
  if (!kept.defined() || kept.layout() != at::kStrided || kept.sizes() != parameter.sizes() ||
      kept.scalar_type() != parameter.scalar_type() || kept.device() != parameter.device()) {
    return false;
  }
  kept = at::empty_like(parameter).copy_(kept);
  return true;
}

bool fits_fused_kernels(const at::Tensor& parameter) {
  const auto dtype = parameter.scalar_type();
  // On the CPU the kernels keep less precision than torch::optim in half-precision tensors.
  const bool known = dtype == at::kFloat || dtype == at::kDouble ||
                     (parameter.is_cuda() && (dtype == at::kHalf || dtype == at::kBFloat16));
  return known && (parameter.is_cpu() || parameter.is_cuda()) &&
         parameter.is_non_overlapping_and_dense() && lies_alike(gradient_of(parameter), parameter);
}

}  // namespace torch_accelerated
