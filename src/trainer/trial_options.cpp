// SPDX-License-Identifier: Apache-2.0
#include "trainer/trial_options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr const char* kVariable = "TORCH_ACCELERATED_LIMIT_BATCHES";

std::optional<std::int64_t> limit_of_environment() {
  const char* given = std::getenv(kVariable);
  if (given == nullptr || *given == '\0') return std::nullopt;
  const std::string_view text(given);
  std::int64_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error == std::errc() && end == text.data() + text.size() && limit >= 1) return limit;
  throw ArgumentError(concat("the environment's ", kVariable, " is '", text,
                             "'; set it to a number of batches >= 1, or unset it"));
}

void check(const TrainOptions& options) {
  OptionCheck("train")
      .require(!options.fast_dev_run || !options.overfit_batches,
               "fast_dev_run and overfit_batches are both given; give one of them")
      .require(!options.limit_train_batches || !options.overfit_batches,
               "limit_train_batches and overfit_batches are both given; give one of them")
      .require(!options.overfit_batches || !options.train_loader.shuffle.value_or(false),
               "overfit_batches trains on the same batches each epoch; leave train_loader.shuffle "
               "out")
      .throw_if_any();
}

}  // namespace

TrainOptions with_trial_limits(TrainOptions options) {
  check(options);
  if (options.fast_dev_run) {
    const bool sharded = options.deterministic_shards.has_value();  // then the limit is of updates
    options.num_epochs = 1;
    options.accumulation_schedule = {};
    if (options.limit_train_batches.value_or(1) > 0) {  // else it is told as wrong
      options.limit_train_batches = sharded ? 1 : options.gradient_accumulation_steps;
    }
    if (options.limit_eval_batches.value_or(1) > 0) options.limit_eval_batches = 1;
    options.sanity_eval_batches = std::min<std::int64_t>(options.sanity_eval_batches, 1);
  }
  if (options.overfit_batches.value_or(0) > 0)
    options.limit_train_batches = options.overfit_batches;
  const auto limit = limit_of_environment();
  if (!options.limit_train_batches) options.limit_train_batches = limit;
  if (!options.limit_eval_batches) options.limit_eval_batches = limit;
  options.sanity_eval_batches =
      std::min(options.sanity_eval_batches, limit.value_or(options.sanity_eval_batches));
  return options;
}

std::optional<std::int64_t> limit_of_evaluation(std::optional<std::int64_t> asked) {
  return asked ? asked : limit_of_environment();
}

}  // namespace torch_accelerated
