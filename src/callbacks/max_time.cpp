// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/max_time.h"

#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

double in_seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

MaxTime::MaxTime(std::chrono::milliseconds limit) : limit_(limit) {
  OptionCheck check("MaxTime");
  check.require(limit > std::chrono::milliseconds(0),
                concat("limit must be more than 0 s, got ", in_seconds(limit), " s"));
  check.throw_if_any();
}

void MaxTime::on_training_run_start(Trainer&, const TrainingRunStart&) {
  if (!std::exchange(loaded_, false)) before_ = Clock::duration(0);
  began_ = Clock::now();
}

void MaxTime::on_training_run_end(Trainer&, const TrainingRunEnd&) {
  before_ = lasted();
  began_.reset();
  loaded_ = false;
}

MaxTime::Clock::duration MaxTime::lasted() const {
  return before_ + (began_ ? Clock::now() - *began_ : Clock::duration(0));
}

void MaxTime::on_train_step_end(Trainer& trainer, const TrainStepEnd&) {
  if (!trainer.accelerator().is_main_process() || trainer.stop_requested()) return;
  if (lasted() < limit_) return;
  trainer.request_stop(concat("MaxTime: the run has lasted for ", in_seconds(limit_), " s"));
}

State MaxTime::state() const {
  return State().set("seconds", std::chrono::duration<double>(lasted()).count());
}

void MaxTime::load_state(const State& state) {
  const std::chrono::duration<double> seconds(state.get<double>("seconds"));
  before_ = std::chrono::duration_cast<Clock::duration>(seconds);
  if (began_) began_ = Clock::now();  // the run goes on from there
  loaded_ = true;
}

}  // namespace torch_accelerated
