// SPDX-License-Identifier: Apache-2.0
#include "trainer/lone_trainer.h"

#include <torch/torch.h>

#include <algorithm>

#include "accelerator/zero_grad.h"

namespace torch_accelerated {
namespace {

// Between them they have all modules and all optimizers.
std::vector<TrainingSnapshot> snapshots_of(const TrainerState& state) {
  const auto& modules = state.modules;
  const auto& optimizers = state.optimizers;
  std::vector<TrainingSnapshot> snapshots;
  for (std::size_t i = 0; i < std::max(modules.size(), optimizers.size()); ++i) {
    snapshots.emplace_back(modules[std::min(i, modules.size() - 1)].second.module(),
                           *optimizers[std::min(i, optimizers.size() - 1)].optimizer);
  }
  return snapshots;
}

}  // namespace

SeparateNorms::SeparateNorms(const TrainerState& state) {
  for (const auto& [name, model] : state.modules) {
    for (const auto& part : model.module_ptr()->modules()) {
      if (auto* norm = part->as<SyncBatchNormImpl>()) groups_.emplace_back(norm, norm->group());
    }
  }
  for (const auto& [norm, group] : groups_) norm->set_group(nullptr);
}

SeparateNorms::~SeparateNorms() {
  for (const auto& [norm, group] : groups_) norm->set_group(group);
}

LoneTrainer::LoneTrainer(TrainerState& state, Accelerator& alone)
    : state_(state),
      snapshots_(snapshots_of(state)),
      norms_(state),
      config_(state.config),
      progress_(state.progress),
      initialised_(state.initialised),
      history_(std::exchange(state.history, std::make_unique<InMemoryHistory>())),
      callbacks_(std::exchange(state.callbacks, CallbackList())),
      accelerator_(std::exchange(state.accelerator, &alone)) {
  state.initialised = true;  // on_init_end is left to the next run
}

LoneTrainer::~LoneTrainer() {
  state_.accelerator = accelerator_;
  state_.callbacks = std::move(callbacks_);
  state_.history = std::move(history_);
  state_.initialised = initialised_;
  state_.progress = progress_;
  state_.config = std::move(config_);
  // First what takes memory, then what may need some.
  for (const auto& slot : state_.optimizers) zero_grad(*slot.optimizer);
  for (auto& snapshot : snapshots_) snapshot.give_back();
  accelerator_->free_memory();  // pieces cut for one batch size are in the way of another's
}

}  // namespace torch_accelerated
