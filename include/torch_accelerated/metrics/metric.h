// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/mean.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// A number that is averaged over an epoch: any function (outputs, batch) -> Mean | Tensor, called
/// without gradients for each micro-batch. A Tensor is taken as the mean over the rows.
class Metric {
 public:
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, Metric> &&
             requires(F& f, const TensorDict& outputs, const Batch& batch) {
               { f(outputs, batch) } -> std::convertible_to<Mean>;
             })
  Metric(F function) : function_(std::move(function)) {  // NOLINT(google-explicit-constructor)
    if (!function_) throw ArgumentError("Metric: the function is empty; give one to call");
  }

  Mean operator()(const TensorDict& outputs, const Batch& batch) const {
    return function_(outputs, batch);
  }

 private:
  std::function<Mean(const TensorDict&, const Batch&)> function_;
};

}  // namespace torch_accelerated
