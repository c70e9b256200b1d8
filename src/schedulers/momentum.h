// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <optional>
#include <tuple>

namespace torch_accelerated {

/// The momentum of a param group, or its first beta; nothing for an optimizer that has neither.
inline std::optional<double> momentum_of(const torch::optim::OptimizerOptions& options) {
  using namespace torch::optim;
  if (const auto* sgd = dynamic_cast<const SGDOptions*>(&options)) return sgd->momentum();
  if (const auto* rms = dynamic_cast<const RMSpropOptions*>(&options)) return rms->momentum();
  if (const auto* adam = dynamic_cast<const AdamOptions*>(&options)) {
    return std::get<0>(adam->betas());
  }
  if (const auto* adamw = dynamic_cast<const AdamWOptions*>(&options)) {
    return std::get<0>(adamw->betas());
  }
  return std::nullopt;
}

/// Sets what `momentum_of` reads; nothing for an optimizer that has neither.
inline void set_momentum(torch::optim::OptimizerOptions& options, double momentum) {
  using namespace torch::optim;
  if (auto* sgd = dynamic_cast<SGDOptions*>(&options)) {
    sgd->momentum(momentum);
  } else if (auto* rms = dynamic_cast<RMSpropOptions*>(&options)) {
    rms->momentum(momentum);
  } else if (auto* adam = dynamic_cast<AdamOptions*>(&options)) {
    adam->betas({momentum, std::get<1>(adam->betas())});
  } else if (auto* adamw = dynamic_cast<AdamWOptions*>(&options)) {
    adamw->betas({momentum, std::get<1>(adamw->betas())});
  }
}

}  // namespace torch_accelerated
