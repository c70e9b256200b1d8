// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/from_torch.h"

#include <torch/torch.h>

#include <algorithm>
#include <typeinfo>
#include <utility>
#include <vector>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using torch::optim::LRScheduler;

class TorchScheduler : public Scheduler {
 public:
  TorchScheduler(torch::optim::Optimizer& optimizer, TorchSchedulerFactory make, std::string name)
      : optimizer_(&optimizer),
        make_(std::move(make)),
        name_(std::move(name)),
        base_rates_(rates()),
        scheduler_(made()) {}

  void step() override {
    scheduler_->step();
    ++steps_;
  }

  std::string name() const override { return name_; }

  std::string settings() const override {
    const auto& scheduler = *scheduler_;
    auto text = c10::demangle(typeid(scheduler).name()) + " from";
    for (const double rate : base_rates_) text += " " + exact_text(rate);
    text += ", at";
    for (const double rate : rates()) text += " " + exact_text(rate);
    return text;
  }

  State state() const override {
    return State().set("steps", steps_).set("base_rates", base_rates_).set("rates", rates());
  }

  void load_state(const State& state) override {
    const auto steps = state.get<std::int64_t>("steps");
    const auto& base_rates = state.get<std::vector<double>>("base_rates");
    const auto& now = state.get<std::vector<double>>("rates");
    require_groups(now.size());
    const auto before = rates();
    set_rates(base_rates);
    std::unique_ptr<LRScheduler> scheduler;
    try {
      scheduler = made();
    } catch (...) {
      set_rates(before);
      throw;
    }
    for (std::int64_t i = 0; i < steps; ++i) scheduler->step();
    // What else has set the rates during the run, so that those that follow from them are right.
    set_rates(now);
    scheduler_ = std::move(scheduler);
    base_rates_ = base_rates;
    steps_ = steps;
  }

 private:
  std::unique_ptr<LRScheduler> made() const {
    if (auto scheduler = make_(*optimizer_)) return scheduler;
    throw ArgumentError(
        concat("from_torch: the function that makes '", name_, "' gave null; return a scheduler"));
  }

  std::vector<double> rates() const {
    std::vector<double> rates;
    rates.reserve(optimizer_->param_groups().size());
    for (const auto& group : optimizer_->param_groups()) rates.push_back(group.options().get_lr());
    return rates;
  }

  void require_groups(std::size_t saved) const {
    const auto groups = optimizer_->param_groups().size();
    if (saved == groups) return;
    throw StateError(concat(name_, ": the state is of ", saved, " param groups, the optimizer has ",
                            groups, "; add the same groups before"));
  }

  void set_rates(const std::vector<double>& rates) {
    auto& groups = optimizer_->param_groups();
    const auto count = std::min(rates.size(), groups.size());  // more have come since the start
    for (std::size_t i = 0; i < count; ++i) groups[i].options().set_lr(rates[i]);
  }

  torch::optim::Optimizer* optimizer_;
  TorchSchedulerFactory make_;
  std::string name_;
  std::vector<double> base_rates_;
  std::unique_ptr<LRScheduler> scheduler_;
  std::int64_t steps_ = 0;
};

}  // namespace

SchedulerFactory from_torch(TorchSchedulerFactory make, std::string name) {
  OptionCheck("from_torch")
      .require(static_cast<bool>(make), "the function that makes the scheduler is empty")
      .require(!name.empty(), "the name is empty; it stands in the run's table")
      .throw_if_any();
  return [make = std::move(make), name = std::move(name)](torch::optim::Optimizer& optimizer,
                                                          const RunConfig&) {
    return std::make_unique<TorchScheduler>(optimizer, make, name);
  };
}

}  // namespace torch_accelerated
