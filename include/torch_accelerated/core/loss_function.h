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

namespace detail {

/// A module such as torch::nn::CrossEntropyLoss. Asked for its forward, as the holder's own call
/// operator can't be asked about anything without being compiled.
template <class F>
concept LossModule = requires(F& holder, const torch::Tensor& output, const torch::Tensor& target) {
  { holder.ptr()->forward(output, target) } -> std::convertible_to<Mean>;
};

template <class F>
concept LossOfDicts = !requires(F& holder) { holder.ptr(); } &&
                      requires(F& f, const TensorDict& outputs, const Batch& batch) {
                        { f(outputs, batch) } -> std::convertible_to<Mean>;
                      };

template <class F>
concept LossOfTensors = !requires(F& holder) { holder.ptr(); } &&
                        requires(F& f, const torch::Tensor& output, const torch::Tensor& target) {
                          { f(output, target) } -> std::convertible_to<Mean>;
                        };

}  // namespace detail

/// A loss of a micro-batch, made of (outputs, batch) -> Mean | Tensor, or of (output, target) ->
/// Mean | Tensor, which gets the model's only output and batch["target"]; modules such as
/// torch::nn::CrossEntropyLoss fit. A Tensor is taken as the mean over the micro-batch's rows.
class LossFunction {
 public:
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, LossFunction> &&
             (detail::LossModule<F> || detail::LossOfDicts<F> || detail::LossOfTensors<F>))
  LossFunction(F function) {  // NOLINT(google-explicit-constructor): losses are passed as they are
    if constexpr (detail::LossModule<F>) {
      function_ = [module = function.ptr()](const TensorDict& outputs, const Batch& batch) {
        return Mean(module->forward(outputs.only(), batch["target"]));
      };
    } else if constexpr (detail::LossOfDicts<F>) {
      function_ = std::move(function);
      if (!function_) throw ArgumentError("LossFunction: the function is empty; give one to call");
    } else {
      function_ = [f = std::move(function)](const TensorDict& outputs, const Batch& batch) mutable {
        return Mean(f(outputs.only(), batch["target"]));
      };
    }
  }

  Mean operator()(const TensorDict& outputs, const Batch& batch) const {
    return function_(outputs, batch);
  }

 private:
  std::function<Mean(const TensorDict&, const Batch&)> function_;
};

}  // namespace torch_accelerated
