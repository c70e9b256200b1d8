// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/finetuning/param_groups.h"

#include <torch/torch.h>

#include <cmath>

#include "base/text.h"
#include "finetuning/model_parts.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

void check(const DiscriminativeRates& rates, double last_rate) {
  const double first = rates.first_rate.value_or(last_rate);
  OptionCheck("discriminative_groups")
      .require(rates.first_rate.has_value() != rates.factor.has_value(),
               concat(rates.factor ? "first_rate and factor are both given"
                                   : "neither first_rate nor factor is given",
                      "; give one of them"))
      .require(last_rate > 0, concat("the options' learning rate, which the last group gets, must "
                                     "be > 0, got ",
                                     last_rate))
      .require(first > 0 && first <= last_rate,
               concat("first_rate must be > 0 and at most the last group's ", last_rate, ", got ",
                      first))
      .require(
          !rates.factor || (*rates.factor >= 1 && std::isfinite(*rates.factor)),
          concat("factor must be >= 1, got ", rates.factor.value_or(1), "; 2.6 is a usual one"))
      .throw_if_any();
}

// The trainable parameters of each group that has some, each once.
std::vector<std::vector<torch::Tensor>> trainable_groups(const torch::nn::Module& module) {
  std::vector<std::vector<torch::Tensor>> groups;
  SeenTensors seen;
  for (const auto& slice : layer_groups(module)) {
    std::vector<torch::Tensor> trainable;
    for (const auto& part : slice.parts) {
      for (const auto& parameter : part.parameters()) {
        if (parameter.requires_grad() && seen.add(parameter)) trainable.push_back(parameter);
      }
    }
    if (!trainable.empty()) groups.push_back(std::move(trainable));
  }
  if (!groups.empty()) return groups;
  throw ArgumentError(concat("discriminative_groups: the module, a ", short_type(module),
                             ", has no trainable parameters; unfreeze some of it before"));
}

// LibTorch casts options without a look, so that a wrong type would be read as something else.
void check_type(const torch::optim::Optimizer& optimizer,
                const torch::optim::OptimizerParamGroup& group) {
  if (!group.has_options()) return;
  const auto& given = group.options();
  const auto& taken = optimizer.defaults();
  if (typeid(given) == typeid(taken)) return;
  throw ArgumentError(concat("add_param_groups: a group has options of type ",
                             c10::demangle(typeid(given).name()), ", the optimizer takes ",
                             c10::demangle(typeid(taken).name())));
}

}  // namespace

ParamGroups discriminative_groups(const torch::nn::Module& module,
                                  const torch::optim::OptimizerOptions& options,
                                  const DiscriminativeRates& rates) {
  const double last_rate = options.get_lr();
  check(rates, last_rate);
  auto parameters = trainable_groups(module);
  const auto steps = static_cast<double>(parameters.size() - 1);
  ParamGroups groups;
  groups.reserve(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double before_last = steps - static_cast<double>(i);
    double rate = last_rate;
    if (before_last > 0) {
      rate *= rates.factor ? std::pow(*rates.factor, -before_last)
                           : std::pow(*rates.first_rate / last_rate, before_last / steps);
    }
    groups.emplace_back(std::move(parameters[i]), options.clone());
    groups.back().options().set_lr(rate);
  }
  return groups;
}

std::size_t add_param_groups(torch::optim::Optimizer& optimizer, const ParamGroups& groups,
                             std::optional<double> learning_rate) {
  SeenTensors held;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) held.add(parameter);
  }
  for (const auto& group : groups) check_type(optimizer, group);
  std::size_t added = 0;
  for (const auto& group : groups) {
    std::vector<torch::Tensor> parameters;
    for (const auto& parameter : group.params()) {
      if (held.add(parameter)) parameters.push_back(parameter);
    }
    if (parameters.empty()) continue;
    auto options = group.has_options() ? group.options().clone() : optimizer.defaults().clone();
    if (learning_rate && !group.has_options()) options->set_lr(*learning_rate);
    optimizer.add_param_group({std::move(parameters), std::move(options)});
    ++added;
  }
  return added;
}

}  // namespace torch_accelerated
