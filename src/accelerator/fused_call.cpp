// SPDX-License-Identifier: Apache-2.0
#include "accelerator/fused_call.h"

#include "core/gradient_of.h"

namespace torch_accelerated {
namespace {

// By a loop, as most have a dimension or two: comparing ranges of numbers ends in memcmp.
bool are_equal(at::IntArrayRef a, at::IntArrayRef b) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) equal = a[i] == b[i];
  return equal;
}

bool is_alike(const at::Tensor& other, const at::Tensor& parameter) {
  return other.defined() && other.layout() == at::kStrided && other.dtype() == parameter.dtype() &&
         other.device() == parameter.device() && are_equal(other.sizes(), parameter.sizes());
}

}  // namespace

void FusedCalls::begin() noexcept {
  used_ = 0;
  for (auto& call : calls_) {
    for (auto* tensors : {&call.parameters, &call.first, &call.second, &call.largest}) {
      tensors->begin();
    }
  }
}

FusedCall& FusedCalls::of(std::int64_t step, const at::Tensor& parameter) {
  for (auto& call : all()) {
    const auto& like = call.parameters.all().front();
    if (call.step == step && like.dtype() == parameter.dtype() &&
        like.device() == parameter.device()) {
      return call;
    }
  }
  if (used_ == calls_.size()) calls_.emplace_back();
  calls_[used_].step = step;
  return calls_[used_++];
}

void FusedCalls::end() noexcept {
  calls_.resize(used_);
  for (auto& call : calls_) {
    call.gradients.clear();
    for (auto* tensors : {&call.parameters, &call.first, &call.second, &call.largest}) {
      tensors->end();
    }
  }
}

bool lies_alike(const at::Tensor& other, const at::Tensor& parameter) {
  return is_alike(other, parameter) && (are_equal(other.strides(), parameter.strides()) ||
                                        (other.is_contiguous() && parameter.is_contiguous()));
}

bool lay_out_alike(at::Tensor& kept, const at::Tensor& parameter) {
  if (lies_alike(kept, parameter)) return true;
  if (!is_alike(kept, parameter)) return false;
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
