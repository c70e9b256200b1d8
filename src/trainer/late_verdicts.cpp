// SPDX-License-Identifier: Apache-2.0
// Updates whose verdict the host hears of while the next one is on its way.
#include <torch/torch.h>

#include <optional>

#include "torch_accelerated/base/log.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {

// Not where what comes right after an update depends on it: whether its means count, whether other
// ranks have more rows. The rest is for the accelerator to know.
bool TrainerState::verdict_may_be_late() const {
  return config->non_finite != NonFinite::kSkip && !run->sharing.is_per_rank &&
         config->deterministic_shards == 0;
}

// Where options that are known only now leave nothing to capture.
void Trainer::warn_of_plain_steps() const {
  if (!accelerator().options().capture_graph || state_->verdict_may_be_late()) return;
  if (!accelerator().is_main_process()) return;
  log(LogLevel::kWarning,
      "capture_graph: steps run as they are: with NonFinite::kSkip, deterministic shards, or rows "
      "that ranks have of their own, each update is waited for");
}

void Trainer::hear_verdicts(Updates updates) {
  auto& state = *state_;
  auto& undecided = state.run->undecided;
  std::optional<RefusedUpdate> refused;
  // After a bad one all are heard: the run may be about to end, and the optimizers' counts are to
  // be true then.
  while (!undecided.empty() && (updates == Updates::kAll || refused ||
                                undecided.front().update < state.progress.update)) {
    const auto of = undecided.front();
    undecided.pop_front();
    const auto verdict = accelerator().take_verdict();
    if (verdict.optimizer == state.optimizers.front().optimizer) state.progress.loss = verdict.loss;
    if (verdict.is_usable) continue;
    if (std::exchange(state.run->last_bad_update, of.update) != of.update) {
      ++state.progress.skipped_updates;
    }
    RefusedUpdate bad{of, verdict.gradients, state.ranks_not_finite()};
    if (bad.gradients == Gradients::kEmpty) {
      refuse_update(bad);  // which goes on
    } else if (!refused) {
      refused = std::move(bad);
    }
  }
  if (refused) refuse_update(*refused);
}

}  // namespace torch_accelerated
