// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/unfreeze_backbone.h"

#include <torch/torch.h>

#include <algorithm>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {

UnfreezeBackbone::UnfreezeBackbone(const UnfreezeBackboneOptions& options) : options_(options) {
  const double rate = options.learning_rate.value_or(1);
  const auto every = options.every_epochs.value_or(1);
  OptionCheck("UnfreezeBackbone")
      .require(options.epoch >= 1,
               concat("epoch must be >= 1, got ", options.epoch, "; epochs count from 1"))
      .require(every >= 1, concat("every_epochs must be >= 1, got ", every))
      .require(rate > 0, concat("learning_rate must be > 0, got ", rate))
      .require(options.divide_rate_by > 0,
               concat("divide_rate_by must be > 0, got ", options.divide_rate_by))
      .throw_if_any();
}

State UnfreezeBackbone::state() const { return State().set("unfrozen", unfrozen_); }

void UnfreezeBackbone::load_state(const State& state) {
  const auto unfrozen = state.get<std::int64_t>("unfrozen");
  if (unfrozen < done_) {
    throw StateError(concat("UnfreezeBackbone: the state has unfrozen ", unfrozen,
                            " parts, of which ", done_,
                            " are unfrozen here already; load it into a fresh one"));
  }
  unfrozen_ = unfrozen;
}

void UnfreezeBackbone::on_init_end(Trainer& trainer, const InitEnd&) { stages(trainer); }

void UnfreezeBackbone::on_training_run_start(Trainer& trainer, const TrainingRunStart&) {
  stages(trainer);  // throws for a range beyond the model
  unfreeze_stages(trainer);
  if (!options_.frozen_as_eval) return;
  ModelFreezer(trainer.model().module()).set_frozen_as_eval(options_.groups);
}

void UnfreezeBackbone::on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) {
  if (event.epoch < options_.epoch) return;
  const auto all = static_cast<std::int64_t>(stages(trainer).size());
  const auto intervals = (event.epoch - options_.epoch) / options_.every_epochs.value_or(1);
  unfrozen_ = std::max(unfrozen_, std::min(all, intervals + 1));
  unfreeze_stages(trainer);
}

// What the Trainer gives back are the rates of groups that were there before the run.
void UnfreezeBackbone::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  auto& groups = trainer.optimizer().param_groups();
  for (const auto& [index, rate] : added_) {
    if (index < groups.size()) groups[index].options().set_lr(rate);
  }
  added_.clear();  // the next run's Trainer gives them back itself
}

std::vector<LayerRange> UnfreezeBackbone::stages(const Trainer& trainer) const {
  const ModelFreezer freezer(trainer.model().module());
  LayerRange range;
  try {
    range = freezer.resolve(options_.groups);
  } catch (const ArgumentError& problem) {
    ArgumentError error(concat("UnfreezeBackbone: ", problem.what()));
    error.set_on_all_ranks();  // they have the same model
    throw error;
  }
  if (!options_.every_epochs) return {range};
  // Groups without parameters, such as a dropout, go with the one before them.
  const auto groups = freezer.groups();
  std::vector<LayerRange> stages;
  auto to = range.to;
  for (auto from = range.to; from >= range.from; --from) {
    if (groups[static_cast<std::size_t>(from)].parameters == 0 && from > range.from) continue;
    stages.push_back({from, to});
    to = from - 1;
  }
  return stages;
}

void UnfreezeBackbone::unfreeze_stages(Trainer& trainer) {
  if (done_ == unfrozen_) return;
  const auto all = stages(trainer);
  const auto count = static_cast<std::int64_t>(all.size());
  if (unfrozen_ > count) {
    StateError error(concat("UnfreezeBackbone: the loaded state has unfrozen ", unfrozen_,
                            " parts, the options make ", count, "; give those of the saved run"));
    error.set_on_all_ranks();
    throw error;
  }
  auto& optimizer = trainer.optimizer();
  const double rate = options_.learning_rate
                          ? *options_.learning_rate
                          : optimizer.defaults().get_lr() / options_.divide_rate_by;
  const ModelFreezer freezer(trainer.model().module());
  for (; done_ < unfrozen_; ++done_) {
    const auto groups = freezer.unfreeze(all[static_cast<std::size_t>(done_)]);
    for (auto added = add_param_groups(optimizer, groups, rate); added > 0; --added) {
      added_.emplace_back(optimizer.param_groups().size() - added, rate);
    }
  }
}

}  // namespace torch_accelerated
