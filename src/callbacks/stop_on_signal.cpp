// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/stop_on_signal.h"

#include <signal.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kStopOnSignal = "StopOnSignal";

// A handler knows nothing but the process: one flag, the number of the signal that came.
std::atomic<int> arrived{0};
std::atomic<bool> in_use{false};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void torch_accelerated_note_signal(int number) {
  int none = 0;
  if (arrived.compare_exchange_strong(none, number)) return;
  // The second one: as if there were no handler.
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

/// The handlers of a run, while it lives.
class StopOnSignal::Handlers {
 public:
  explicit Handlers(const std::vector<int>& signals) {
    if (in_use.exchange(true)) {
      throw StateError(
          concat(kStopOnSignal, ": another one is at work in this process; use one at a time"));
    }
    arrived = 0;
    struct ::sigaction action{};
    action.sa_handler = torch_accelerated_note_signal;
    // System calls go on where they can; the second signal is let in while the first is handled.
    action.sa_flags = SA_RESTART | SA_NODEFER;
    for (const int number : signals) {
      struct ::sigaction before{};
      ::sigaction(number, &action, &before);
      before_.emplace_back(number, before);
    }
  }
  ~Handlers() {
    for (const auto& [number, before] : before_) ::sigaction(number, &before, nullptr);
    in_use = false;
  }
  Handlers(const Handlers&) = delete;
  Handlers& operator=(const Handlers&) = delete;

 private:
  std::vector<std::pair<int, struct ::sigaction>> before_;
};

StopOnSignal::StopOnSignal(std::vector<int> signals) : signals_(std::move(signals)) {
  OptionCheck check(kStopOnSignal);
  check.require(!signals_.empty(), "no signal is given; give some, such as SIGTERM");
  for (const int number : signals_) {
    const bool can_be = number >= 1 && number < NSIG && number != SIGKILL && number != SIGSTOP;
    check.require(can_be, concat("no handler can be given to the signal ", number));
  }
  check.throw_if_any();
}

StopOnSignal::StopOnSignal(StopOnSignal&&) noexcept = default;
StopOnSignal::~StopOnSignal() = default;

void StopOnSignal::on_training_run_start(Trainer&, const TrainingRunStart&) {
  handlers_.reset();  // of a run that an exception ended
  handlers_ = std::make_unique<Handlers>(signals_);
}

void StopOnSignal::on_train_step_start(Trainer& trainer, const TrainStepStart&) { look(trainer); }

void StopOnSignal::on_train_epoch_end(Trainer& trainer, const TrainEpochEnd&) { look(trainer); }

void StopOnSignal::on_eval_step_start(Trainer& trainer, const EvalStepStart&) { look(trainer); }

void StopOnSignal::on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd&) { look(trainer); }

void StopOnSignal::on_training_run_end(Trainer&, const TrainingRunEnd&) { handlers_.reset(); }

// All ranks hear of it behind the gradients of the update in progress.
void StopOnSignal::look(Trainer& trainer) {
  const int number = handlers_ ? arrived.load() : 0;  // an evaluation may be without a run
  if (number == 0 || trainer.stop_requested()) return;
  if (trainer.keeps_checkpoints()) trainer.request_checkpoint();
  trainer.request_stop(concat(kStopOnSignal, ": the process got ", ::strsignal(number)));
}

}  // namespace torch_accelerated
