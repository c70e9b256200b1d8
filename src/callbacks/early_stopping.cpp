// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/early_stopping.h"

#include <cmath>
#include <utility>

#include "base/text.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kEarlyStopping = "EarlyStopping";

MetricWatchOptions watched(const EarlyStoppingOptions& options) {
  return {options.metric, options.direction, options.min_delta, options.min_relative_delta};
}

void check_thresholds(OptionCheck& check, const EarlyStoppingOptions& options) {
  const auto& good = options.stopping_threshold;
  const auto& bad = options.divergence_threshold;
  check.require(!good || !std::isnan(*good), "stopping_threshold is NaN; leave it out for none");
  check.require(!bad || !std::isnan(*bad), "divergence_threshold is NaN; leave it out for none");
  if (!good || !bad || std::isnan(*good) || std::isnan(*bad)) return;
  check.require(is_better(options.direction, *good, *bad),
                concat("stopping_threshold ", *good, " must be ",
                       options.direction == Better::kLower ? "below" : "above",
                       " divergence_threshold ", *bad, "; exchange them, or set direction"));
}

}  // namespace

EarlyStopping::EarlyStopping(EarlyStoppingOptions options)
    : options_(std::move(options)), watch_(watched(options_)) {
  OptionCheck check(kEarlyStopping);
  check.require(options_.patience >= 1, concat("patience must be >= 1, got ", options_.patience,
                                               "; 1 stops at the first epoch without improvement"));
  watch_.check(check);
  check_thresholds(check, options_);
  check.throw_if_any();
}

std::string EarlyStopping::settings() const {
  return concat("metric ", options_.metric, ", patience ", options_.patience, ", direction ",
                setting(options_.direction), ", min_delta ", setting(options_.min_delta),
                ", min_relative_delta ", setting(options_.min_relative_delta),
                ", stopping_threshold ", setting(options_.stopping_threshold),
                ", divergence_threshold ", setting(options_.divergence_threshold),
                ", reset_on_train ", setting(options_.reset_on_train));
}

void EarlyStopping::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  watch_.require(trainer, kEarlyStopping);
  if (std::exchange(loaded_, false) || !options_.reset_on_train) return;
  watch_.reset();
  waited_ = 0;
}

void EarlyStopping::on_training_run_epoch_end(Trainer& trainer, const TrainingRunEpochEnd&) {
  const auto found = watch_.read(trainer, kEarlyStopping);
  if (!found) return;
  waited_ = watch_.improves(*found) ? 0 : waited_ + 1;
  auto reason = reason_to_stop(*found);
  if (!reason.empty()) trainer.request_stop(std::move(reason));
}

void EarlyStopping::on_training_run_end(Trainer&, const TrainingRunEnd&) { loaded_ = false; }

std::string EarlyStopping::reason_to_stop(const EpochMetric& found) const {
  const auto is = concat(kEarlyStopping, ": ", options_.metric, " is ", found.value);
  const auto& good = options_.stopping_threshold;
  if (good && std::isfinite(found.value) && !is_better(options_.direction, *good, found.value)) {
    return concat(is, ", the stopping_threshold is ", *good);
  }
  const auto& bad = options_.divergence_threshold;
  if (bad && !is_better(options_.direction, found.value, *bad)) {
    return concat(is, ", the divergence_threshold is ", *bad);
  }
  if (waited_ < options_.patience) return {};
  const auto epochs = concat(waited_, waited_ == 1 ? " epoch" : " epochs");
  if (!best()) return concat(is, " and has not been finite for ", epochs);
  return concat(is, " and has not improved for ", epochs, "; the best was ", best()->value,
                " in epoch ", best()->epoch);
}

State EarlyStopping::state() const {
  return State().set("waited", waited_).set_part("watch", watch_.state());
}

void EarlyStopping::load_state(const State& state) {
  const auto waited = state.get<std::int64_t>("waited");
  watch_.load_state(state.part("watch"));
  waited_ = waited;
  loaded_ = true;
}

}  // namespace torch_accelerated
