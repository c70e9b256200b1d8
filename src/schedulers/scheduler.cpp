// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/scheduler.h"

#include <torch/torch.h>

namespace torch_accelerated {

CurveScheduler::CurveScheduler(torch::optim::Optimizer& optimizer, std::string name,
                               RateCurve curve)
    : optimizer_(&optimizer), name_(std::move(name)), curve_(std::move(curve)) {
  set_rates();
}

void CurveScheduler::step() {
  ++update_;
  set_rates();
}

State CurveScheduler::state() const {
  return State().set("update", update_).set("base_rates", base_rates_);
}

void CurveScheduler::load_state(const State& state) {
  const auto update = state.get<std::int64_t>("update");
  base_rates_ = state.get<std::vector<double>>("base_rates");
  update_ = update;
  set_rates();
}

void CurveScheduler::set_rates() {
  auto& groups = optimizer_->param_groups();
  // A group added during the run begins with the rate that it was added with.
  while (base_rates_.size() < groups.size()) {
    base_rates_.push_back(groups[base_rates_.size()].options().get_lr());
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    groups[i].options().set_lr(curve_(update_, base_rates_[i]));
  }
}

}  // namespace torch_accelerated
