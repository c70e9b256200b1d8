// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/swa.h"

#include <torch/torch.h>

#include <cmath>
#include <utility>

#include "base/text.h"
#include "callbacks/batch_norm_statistics.h"
#include "callbacks/evaluation_names.h"
#include "callbacks/run_length.h"
#include "callbacks/setting.h"
#include "core/named_tensors.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kSwa = "Swa";

std::int64_t first_epoch(const SwaOptions& options, std::int64_t epochs) {
  if (options.start_epoch) return *options.start_epoch;
  const double before = std::floor(options.start_fraction * static_cast<double>(epochs));
  return static_cast<std::int64_t>(before) + 1;
}

}  // namespace

Swa::Swa(SwaOptions options) : options_(std::move(options)) {
  OptionCheck check(kSwa);
  check.require(!options_.start_epoch || *options_.start_epoch >= 1,
                concat("start_epoch must be >= 1, got ", options_.start_epoch.value_or(1),
                       "; epochs count from 1"));
  check.require(options_.start_fraction >= 0 && options_.start_fraction < 1,
                concat("start_fraction must be in [0, 1), got ", options_.start_fraction,
                       "; 0.75 averages the last quarter of the run"));
  check.require(options_.every_epochs >= 1,
                concat("every_epochs must be >= 1, got ", options_.every_epochs));
  check.require(options_.batch_norm_batch_size >= 1,
                concat("batch_norm_batch_size must be >= 1, got ", options_.batch_norm_batch_size));
  check.require(!options_.batch_norm_dataset || options_.batch_norm_dataset.size() >= 1,
                "batch_norm_dataset is empty; give it some of the training data");
  check_prefix(check, options_.prefix);
  check.throw_if_any();
}

TensorDict Swa::averages() const {
  auto all = average_;
  for (const auto& [name, buffer] : average_buffers_) all.set(name, buffer);
  return all;
}

std::string Swa::settings() const {
  const auto& dataset = options_.batch_norm_dataset;
  return concat("start_epoch ", setting(options_.start_epoch), ", start_fraction ",
                setting(options_.start_fraction), ", every_epochs ", options_.every_epochs,
                ", evaluate ", setting(options_.evaluate), ", prefix ", options_.prefix,
                ", replace_at_end ", setting(options_.replace_at_end), ", batch_norm_dataset ",
                dataset ? dataset.size() : 0, " rows, batch_norm_batch_size ",
                options_.batch_norm_batch_size);
}

std::vector<std::string> Swa::metric_names(const Trainer& trainer) const {
  if (!options_.evaluate) return {};
  return evaluation_names(trainer, options_.prefix);
}

void Swa::check_run(const Trainer& trainer) const {
  OptionCheck check(kSwa);
  const auto epochs = epochs_of(trainer.run_config());
  check.require(first_epoch_ <= epochs,
                concat("start_epoch is ", first_epoch_, ", the run has ", epochs,
                       epochs == 1 ? " epoch" : " epochs", "; start earlier, or train longer"));
  check.require(
      options_.batch_norm_dataset || BatchNormStatistics(trainer.model().module()).empty(),
      "the model has BatchNorm layers, whose running statistics have to be those of the "
      "averaged weights; set batch_norm_dataset to some of the training data");
  check.throw_if_any();
}

void Swa::on_training_run_start(Trainer& trainer, const TrainingRunStart& event) {
  first_epoch_ = first_epoch(options_, epochs_of(event.config));
  parameters_ = named_parameters(trainer.model().module());
  buffers_ = named_buffers(trainer.model().module());
  const bool goes_on = std::exchange(loaded_, false) && count_ > 0;
  trainer.accelerator().together(kSwa, [&] {
    check_run(trainer);
    if (goes_on) adopt_loaded();
  });
  if (goes_on) return;
  average_ = {};
  average_buffers_ = {};
  count_ = 0;
}

// Brings what was loaded to where the model is.
void Swa::adopt_loaded() {
  auto average = copied_for_sums(parameters_);
  auto buffers = copied(buffers_);
  fitted(average_buffers_, buffers, kSwa);
  copy_into(average_, average, kSwa);
  copy_into(average_buffers_, buffers, kSwa);
  average_ = std::move(average);
  average_buffers_ = std::move(buffers);
}

void Swa::on_train_epoch_end(Trainer&, const TrainEpochEnd& event) {
  const auto past = event.epoch - first_epoch_;
  if (past < 0 || past % options_.every_epochs != 0) return;
  ++count_;
  if (count_ == 1) {
    average_ = copied_for_sums(parameters_);
  } else {
    move_towards(parameters_, 1 / static_cast<double>(count_), average_);
  }
  average_buffers_ = copied(buffers_);
  statistics_are_fresh_ = false;
}

// The averages are in the model while this is called.
void Swa::refresh_statistics(const Trainer& trainer) {
  if (statistics_are_fresh_) return;
  BatchNormStatistics statistics(trainer.model().module());
  if (!statistics.empty()) {
    statistics.recompute(trainer, options_.batch_norm_dataset, options_.batch_norm_batch_size);
  }
  statistics_are_fresh_ = true;
}

void Swa::on_eval_epoch_end(Trainer& trainer, const EvalEpochEnd& event) {
  const bool is_alone = event.epoch == 0;
  if (!options_.evaluate || event.is_intermediate || is_alone || count_ == 0) return;
  const SwappedTensors parameters(average_, parameters_);
  const SwappedTensors buffers(average_buffers_, buffers_);
  refresh_statistics(trainer);
  trainer.evaluate_intermediate({.prefix = options_.prefix});
}

void Swa::on_training_run_end(Trainer& trainer, const TrainingRunEnd&) {
  loaded_ = false;
  if (count_ == 0) return;
  {
    const SwappedTensors parameters(average_, parameters_);
    const SwappedTensors buffers(average_buffers_, buffers_);
    refresh_statistics(trainer);
  }
  if (!options_.replace_at_end) return;
  copy_into(average_, parameters_, kSwa);
  copy_into(average_buffers_, buffers_, kSwa);
}

State Swa::state() const {
  State state;
  state.set("count", count_).set("statistics_are_fresh", statistics_are_fresh_);
  for (const auto& [name, tensor] : copied(average_)) state.set_tensor("average/" + name, tensor);
  for (const auto& [name, tensor] : copied(average_buffers_)) {
    state.set_tensor("buffer/" + name, tensor);
  }
  return state;
}

void Swa::load_state(const State& state) {
  const auto count = state.get<std::int64_t>("count");
  const bool fresh = state.get<bool>("statistics_are_fresh");
  const auto average = copied(state.part("average").tensors());
  const auto buffers = copied(state.part("buffer").tensors());
  const bool has_begun = !parameters_.empty();
  if (has_begun && count > 0) {
    fitted(average, parameters_, kSwa);
    fitted(buffers, buffers_, kSwa);
  }
  average_ = average;
  average_buffers_ = buffers;
  count_ = count;
  statistics_are_fresh_ = fresh;
  loaded_ = true;
  if (has_begun && count > 0) adopt_loaded();
}

}  // namespace torch_accelerated
