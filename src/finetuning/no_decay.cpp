// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include "base/text.h"
#include "finetuning/model_parts.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/finetuning/param_groups.h"

namespace torch_accelerated {
namespace {

template <class... Types>
bool set_decay_of_types(torch::optim::OptimizerOptions& options, double decay) {
  const auto set = [&](auto* typed) {
    if (typed != nullptr) typed->weight_decay(decay);
    return typed != nullptr;
  };
  return (set(dynamic_cast<Types*>(&options)) || ...);
}

// LibTorch's options have it each on its own, and their base doesn't.
void set_weight_decay(torch::optim::OptimizerOptions& options, double decay) {
  using namespace torch::optim;
  if (set_decay_of_types<SGDOptions, AdamOptions, AdamWOptions, RMSpropOptions, AdagradOptions>(
          options, decay)) {
    return;
  }
  throw ArgumentError(concat("no_decay_groups: options of type ",
                             c10::demangle(typeid(options).name()),
                             " have no weight decay that is known here; make the two groups by "
                             "hand, or use options of SGD, Adam, AdamW, RMSprop or Adagrad"));
}

SeenTensors tensors_of_norms(const torch::nn::Module& module) {
  SeenTensors tensors;
  for (const auto& group : layer_groups(module)) {
    for (const auto& part : group.parts) {
      if (!is_norm(*part.module)) continue;
      for (const auto& parameter : part.parameters()) tensors.add(parameter);
    }
  }
  return tensors;
}

}  // namespace

ParamGroups no_decay_groups(const ParamGroups& groups, const torch::nn::Module& module) {
  const auto norms = tensors_of_norms(module);
  SeenTensors seen;
  ParamGroups split;
  split.reserve(2 * groups.size());
  for (const auto& group : groups) {
    if (!group.has_options()) {
      throw ArgumentError(
          "no_decay_groups: a group has no options, whose weight decay it would keep; give it some "
          "with set_options()");
    }
    std::vector<torch::Tensor> decaying;
    std::vector<torch::Tensor> others;
    for (const auto& parameter : group.params()) {
      if (!seen.add(parameter)) continue;
      const bool decays = parameter.dim() > 1 && !norms.contains(parameter);
      (decays ? decaying : others).push_back(parameter);
    }
    auto without_decay = group.options().clone();
    set_weight_decay(*without_decay, 0);
    if (!decaying.empty()) split.emplace_back(std::move(decaying), group.options().clone());
    if (!others.empty()) split.emplace_back(std::move(others), std::move(without_decay));
  }
  return split;
}

ParamGroups no_decay_groups(const torch::nn::Module& module,
                            const torch::optim::OptimizerOptions& options) {
  std::vector<torch::Tensor> trainable;
  for (const auto& parameter : module.parameters()) {
    if (parameter.requires_grad()) trainable.push_back(parameter);
  }
  if (trainable.empty()) {
    throw ArgumentError(concat("no_decay_groups: the module, a ", short_type(module),
                               ", has no trainable parameters; unfreeze some of it before"));
  }
  ParamGroups whole;
  whole.emplace_back(std::move(trainable), options.clone());
  return no_decay_groups(whole, module);
}

}  // namespace torch_accelerated
