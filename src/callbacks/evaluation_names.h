// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {

/// Notes a prefix with which an evaluation's metrics would take the place of others.
inline void check_prefix(OptionCheck& check, const std::string& prefix) {
  check.require(!prefix.empty() && prefix != "eval_" && prefix != "train_",
                concat("prefix must tell its metrics from the run's own, got \"", prefix, "\""));
}

/// What the metrics of an evaluation with `prefix` will be called, for Callback::metric_names.
inline std::vector<std::string> evaluation_names(const Trainer& trainer,
                                                 const std::string& prefix) {
  if (!trainer.run_config().eval_rows) return {};
  auto names = trainer.evaluation_metrics();
  for (auto& name : names) name.insert(0, prefix);
  return names;
}

}  // namespace torch_accelerated
