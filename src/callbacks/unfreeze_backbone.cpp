// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/unfreeze_backbone.h"

#include <torch/torch.h>

#include <algorithm>

#include "base/text.h"
#include "callbacks/run_length.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kUnfreezeBackbone = "UnfreezeBackbone";

}  // namespace

UnfreezeBackbone::UnfreezeBackbone(const UnfreezeBackboneOptions& options) : options_(options) {
  const double rate = options.learning_rate.value_or(1);
  const auto every = options.every_epochs.value_or(1);
  OptionCheck(kUnfreezeBackbone)
      .require(options.epoch >= 1,
               concat("epoch must be >= 1, got ", options.epoch, "; epochs count from 1"))
      .require(every >= 1, concat("every_epochs must be >= 1, got ", every))
      .require(rate > 0, concat("learning_rate must be > 0, got ", rate))
      .require(options.divide_rate_by > 0,
               concat("divide_rate_by must be > 0, got ", options.divide_rate_by))
      .throw_if_any();
}

std::string UnfreezeBackbone::settings() const {
  return concat("epoch ", options_.epoch, ", groups ", options_.groups.from, " to ",
                options_.groups.to, ", learning_rate ", setting(options_.learning_rate),
                ", divide_rate_by ", setting(options_.divide_rate_by), ", every_epochs ",
                setting(options_.every_epochs), ", frozen_as_eval ",
                setting(options_.frozen_as_eval));
}

State UnfreezeBackbone::state() const { return State().set("unfrozen", unfrozen_); }

void UnfreezeBackbone::load_state(const State& state) {
  const auto unfrozen = state.get<std::int64_t>("unfrozen");
  if (unfrozen < done_) {
    throw StateError(concat(kUnfreezeBackbone, ": the state has unfrozen ", unfrozen,
                            " parts, of which ", done_,
                            " are unfrozen here already; load it into a fresh one"));
  }
  unfrozen_ = unfrozen;
}

void UnfreezeBackbone::on_init_end(Trainer& trainer, const InitEnd&) { stages(trainer); }

void UnfreezeBackbone::on_training_run_start(Trainer& trainer, const TrainingRunStart& event) {
  stages(trainer);  // throws for a range beyond the model
  check_epoch(event.config);
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

void UnfreezeBackbone::check_epoch(const RunConfig& config) const {
  const auto epochs = epochs_of(config);
  if (unfrozen_ > 0 || options_.epoch <= epochs) return;
  ArgumentError error(concat(kUnfreezeBackbone, ": epoch is ", options_.epoch, ", the run has ",
                             epochs, epochs == 1 ? " epoch" : " epochs",
                             "; unfreeze earlier, or train longer"));
  error.set_on_all_ranks();  // they have the same run
  throw error;
}

std::vector<LayerRange> UnfreezeBackbone::stages(const Trainer& trainer) const {
  const ModelFreezer freezer(trainer.model().module());
  LayerRange range;
  try {
    range = freezer.resolve(options_.groups);
  } catch (const ArgumentError& problem) {
    ArgumentError error(concat(kUnfreezeBackbone, ": ", problem.what()));
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
    StateError error(concat(kUnfreezeBackbone, ": the loaded state has unfrozen ", unfrozen_,
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
    add_param_groups(optimizer, groups, rate);
  }
}

}  // namespace torch_accelerated
