// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"

namespace torch::optim {
class OptimizerOptions;
class OptimizerParamGroup;
}  // namespace torch::optim

namespace torch_accelerated {

/// Parameters with their options, as the constructors of LibTorch's optimizers take them.
using ParamGroups = std::vector<torch::optim::OptimizerParamGroup>;

/// The learning rates of a model's layer groups, from the first to the last; either of the two.
struct DiscriminativeRates {
  std::optional<double> first_rate = {};  ///< the last has the options' own, geometric in between
  std::optional<double> factor = {};      ///< each has the next one's divided by this, >= 1
};

/// One param group for each layer group of `module` (see ModelFreezer) that has trainable
/// parameters: the nearer to the input, the lower the rate.
/// @param options  of all groups, such as torch::optim::AdamWOptions(1e-3); its learning rate is
///                 the last group's.
/// @throws ArgumentError  no trainable parameter, neither or both of the rates, a first rate
///                        outside (0, last rate], a factor < 1.
/// @par Source  Howard and Ruder 2018 (arXiv:1801.06146), section 3.2, where the factor is 2.6.
ParamGroups discriminative_groups(const torch::nn::Module& module,
                                  const torch::optim::OptimizerOptions& options,
                                  const DiscriminativeRates& rates);

/// The trainable parameters of `module` in two groups: with the weight decay of `options`, and
/// without for all that has at most one dimension (biases) or belongs to a normalisation layer.
/// @throws ArgumentError  no trainable parameter, or options that know no weight decay.
ParamGroups no_decay_groups(const torch::nn::Module& module,
                            const torch::optim::OptimizerOptions& options);

/// Splits each of `groups` in the same way, such as those of `discriminative_groups`.
/// @param module  tells which parameters belong to normalisation layers.
/// @throws ArgumentError  a group without options, or with options that know no weight decay.
ParamGroups no_decay_groups(const ParamGroups& groups, const torch::nn::Module& module);

/// Adds groups to an optimizer, without the parameters that it holds already, which stay where they
/// are. A group without options gets the optimizer's defaults, with `learning_rate` where given.
/// @return how many groups were added: those that are left empty are not.
/// @throws ArgumentError  options of another optimizer's type; nothing has been added.
std::size_t add_param_groups(torch::optim::Optimizer& optimizer, const ParamGroups& groups,
                             std::optional<double> learning_rate = {});

}  // namespace torch_accelerated
