// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

namespace detail {

/// What a forward returned, as outputs: a single tensor is called "output".
TensorDict as_outputs(torch::Tensor output);
inline TensorDict as_outputs(TensorDict outputs) { return outputs; }

/// The shared pointer that `module` is owned by.
/// @throws ArgumentError  when it is owned by none, such as an Impl on the stack.
std::shared_ptr<torch::nn::Module> shared_module(torch::nn::Module& module);

template <class T>
concept ModuleHolder = requires(const T& holder) { holder.ptr()->train(); };

template <class Impl>
concept ForwardOfTensor =
    requires(Impl& module, const torch::Tensor& data) { as_outputs(module.forward(data)); };

template <class Impl>
concept ForwardOfBatch =
    requires(Impl& module, const Batch& batch) { as_outputs(module.forward(batch)); };

}  // namespace detail

/// A module and its forward: the handle by which the library knows a model.
///
/// Never a wrapper: the module passed in is the module that trains. Copies share it.
class Model {
 public:
  using Forward = std::function<TensorDict(const Batch&)>;

  /// @param holder  a module holder (`Net net;` after TORCH_MODULE(Net)) or a shared_ptr to an Impl
  ///                with `forward(Tensor)`, which gets batch["data"], or `forward(const Batch&)`;
  ///                either returns a Tensor, to be called "output", or a TensorDict.
  template <detail::ModuleHolder Holder>
  Model(const Holder& holder) : Model(holder.ptr()) {}  // NOLINT(google-explicit-constructor)

  template <class Impl>
  Model(const std::shared_ptr<Impl>& module)  // NOLINT(google-explicit-constructor)
      : Model(std::shared_ptr<torch::nn::Module>(module), forward_of(module)) {}

  /// @param function  called as function(module, batch) or function(batch); returns a Tensor or a
  ///                  TensorDict. For modules with any other forward.
  template <detail::ModuleHolder Holder, class Function>
  Model(Holder holder, Function function)
      : Model(std::shared_ptr<torch::nn::Module>(holder.ptr()),
              [holder, function = std::move(function)](const Batch& batch) mutable {
                if constexpr (std::is_invocable_v<Function&, Holder&, const Batch&>) {
                  return detail::as_outputs(function(holder, batch));
                } else {
                  return detail::as_outputs(function(batch));
                }
              }) {}

  /// @throws ArgumentError  a null module or function.
  Model(std::shared_ptr<torch::nn::Module> module, Forward forward);

  /// For a module that something else owns already by a shared_ptr, such as a child of another.
  /// @throws ArgumentError  an Impl on the stack, which nothing can share.
  template <class Impl>
    requires std::derived_from<Impl, torch::nn::Module>
  Model(Impl& module)  // NOLINT(google-explicit-constructor)
      : Model(std::static_pointer_cast<Impl>(detail::shared_module(module))) {}

  TensorDict operator()(const Batch& batch) const { return forward_(batch); }

  torch::nn::Module& module() const noexcept { return *module_; }
  const std::shared_ptr<torch::nn::Module>& module_ptr() const noexcept { return module_; }

 private:
  template <class Impl>
  static Forward forward_of(const std::shared_ptr<Impl>& module) {
    if constexpr (detail::ForwardOfTensor<Impl>) {
      return [module](const Batch& batch) {
        return detail::as_outputs(module->forward(batch["data"]));
      };
    } else {
      static_assert(detail::ForwardOfBatch<Impl>,
                    "the module has neither forward(Tensor) nor forward(const Batch&) returning a "
                    "Tensor or a TensorDict: give a lambda, Model(holder, [](auto& net, const "
                    "Batch& batch) { ... })");
      return [module](const Batch& batch) { return detail::as_outputs(module->forward(batch)); };
    }
  }

  std::shared_ptr<torch::nn::Module> module_;
  Forward forward_;
};

}  // namespace torch_accelerated
