// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/step_decay.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/text.h"
#include "torch_accelerated/base/check.h"

namespace torch_accelerated {
namespace {

void check_factor(OptionCheck& check, double factor) {
  check.require(factor > 0 && factor <= 1, concat("factor must be in (0, 1], got ", factor));
}

void check(const char* call, const StepDecayOptions& options) {
  OptionCheck check(call);
  check_factor(check, options.factor);
  check
      .require(options.every_updates >= 1, concat("every_updates must be >= 1, got ",
                                                  options.every_updates, "; it is required"))
      .throw_if_any();
}

void check(const MultiStepDecayOptions& options) {
  const auto& milestones = options.milestones;
  OptionCheck check("multi_step_decay");
  check_factor(check, options.factor);
  check.require(!milestones.empty(), "milestones are empty; give the updates of the steps")
      .require(milestones.empty() || *std::min_element(milestones.begin(), milestones.end()) >= 1,
               "milestones must be >= 1")
      .require(std::adjacent_find(milestones.begin(), milestones.end(), std::greater_equal<>()) ==
                   milestones.end(),
               "milestones must ascend, each once")
      .throw_if_any();
}

}  // namespace

double step_decay_rate(std::int64_t update, double base_rate, const StepDecayOptions& options) {
  if (options.every_updates < 1) check("step_decay_rate", options);
  const std::int64_t steps = update / options.every_updates;
  return base_rate * std::pow(options.factor, static_cast<double>(steps));
}

Schedule step_decay(StepDecayOptions options) {
  check("step_decay", options);
  return {"step_decay", [options](const RunConfig&) {
            return Curve{.rate = [options](std::int64_t update, double base_rate) {
              return step_decay_rate(update, base_rate, options);
            }};
          }};
}

double multi_step_decay_rate(std::int64_t update, double base_rate,
                             const MultiStepDecayOptions& options) {
  const auto& milestones = options.milestones;
  const auto passed = std::upper_bound(milestones.begin(), milestones.end(), update);
  return base_rate * std::pow(options.factor, static_cast<double>(passed - milestones.begin()));
}

Schedule multi_step_decay(MultiStepDecayOptions options) {
  check(options);
  return {"multi_step_decay", [options = std::move(options)](const RunConfig&) {
            return Curve{.rate = [options](std::int64_t update, double base_rate) {
              return multi_step_decay_rate(update, base_rate, options);
            }};
          }};
}

}  // namespace torch_accelerated
