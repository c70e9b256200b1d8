// SPDX-License-Identifier: Apache-2.0
#include "accelerator/gradient_hooks.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace torch_accelerated {
namespace {

using torch::autograd::variable_list;

class Call : public torch::autograd::FunctionPostHook {
 public:
  Call(std::function<void(std::size_t)> call, std::size_t index)
      : call_(std::move(call)), index_(index) {}

  variable_list operator()(const variable_list& outputs, const variable_list& /*inputs*/) override {
    call_(index_);
    return outputs;
  }

 private:
  std::function<void(std::size_t)> call_;
  std::size_t index_;
};

}  // namespace

GradientHooks::GradientHooks(std::span<const torch::Tensor> parameters,
                             std::function<void(std::size_t)> call) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto accumulator = torch::autograd::impl::grad_accumulator(parameters[i]);
    const auto key = accumulator->add_post_hook(std::make_unique<Call>(call, i));
    hooks_.push_back({std::move(accumulator), key});
  }
}

GradientHooks::~GradientHooks() {
  for (auto& hook : hooks_) hook.accumulator->del_post_hook(hook.key);
}

}  // namespace torch_accelerated
