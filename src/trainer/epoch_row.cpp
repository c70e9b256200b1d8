// SPDX-License-Identifier: Apache-2.0
// What an epoch leaves in the history, and which names that will have.
#include <torch/torch.h>

#include <algorithm>
#include <map>

#include "base/nearest.h"
#include "base/text.h"
#include "schedulers/momentum.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

// "learning_rate" of the first group of the Trainer's own optimizer; others by name and number.
std::string rate_name(const OptimizerSlot& slot, bool is_own, std::size_t group) {
  std::string name = "learning_rate";
  if (!is_own) name += "_" + slot.name;
  if (group > 0) name += concat("_", group);
  return name;
}

void set_rates(MetricValues& metrics, std::vector<OptimizerSlot>& slots) {
  for (auto& slot : slots) {
    const bool is_own = &slot == &slots.front();
    if (slot.rates.empty()) slot.note_rates();  // the steps left the accelerator out
    for (std::size_t i = 0; i < slot.rates.size(); ++i) {
      metrics.set(rate_name(slot, is_own, i), slot.rates[i]);
    }
  }
}

bool is_scaled(const RunConfig& config) {
  return config.mixed_precision == to_string(MixedPrecision::kFp16);
}

// Whether updates may be left out without ending the run.
bool may_skip(const RunConfig& config) {
  return is_scaled(config) || config.non_finite == NonFinite::kSkip;
}

}  // namespace

void OptimizerSlot::note_rates() {
  const auto& groups = optimizer->param_groups();
  rates.resize(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) rates[i] = groups[i].options().get_lr();
}

void OptimizerSlot::note_new_groups() {
  if (!scheduler) return;
  const auto& groups = optimizer->param_groups();
  for (auto i = rates_before_run.size(); i < groups.size(); ++i) {
    rates_before_run.push_back(groups[i].options().get_lr());
    momenta_before_run.push_back(momentum_of(groups[i].options()));
  }
}

HistoryRow Trainer::make_row(const EpochSummary& training) {
  auto& state = *state_;
  auto& run = *state.run;
  HistoryRow row{run.first_epoch + state.progress.epoch, state.progress.update, run.train_metrics};
  if (run.eval_source) {
    const auto found =
        evaluation(*run.eval_source, state.progress.epoch,
                   {.prefix = "eval_", .limit_batches = run_config().limit_eval_batches}, false);
    row.metrics.merge(found.metrics);
  }
  row.metrics.merge(std::exchange(run.beside, {}));
  set_rates(row.metrics, state.optimizers);
  if (training.peak_device_bytes) {
    row.metrics.set("peak_device_bytes", *training.peak_device_bytes);
  }
  if (may_skip(run_config())) {
    row.metrics.set("skipped_updates", static_cast<double>(state.progress.skipped_updates));
  }
  if (is_scaled(run_config())) {
    row.metrics.set("loss_scale", accelerator().loss_scale(optimizer()));
  }
  row.metrics.set("rows_per_second", static_cast<double>(training.rows) / training.seconds);
  const std::chrono::duration<double> epoch = std::chrono::steady_clock::now() - run.epoch_began;
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - run.began;
  row.metrics.set("seconds", state.main_clock(epoch.count()));
  if (const auto total = run_config().total_updates) {
    const auto updates = state.progress.update - run.first_update;
    const auto done = static_cast<double>(std::max<std::int64_t>(updates, 1));
    const auto left = static_cast<double>(*total - state.progress.update);
    row.metrics.set("eta_seconds", state.main_clock(whole.count() / done * std::max(left, 0.0)));
  }
  return row;
}

std::vector<std::string> Trainer::evaluation_metrics() const {
  std::vector<std::string> names = {"loss"};
  for (const auto& metric : state_->metrics) names.push_back(metric.name);
  return names;
}

std::vector<std::string> Trainer::own_metric_names() const {
  const auto& config = run_config();
  std::vector<std::string> names = {"train_loss"};
  for (const auto& slot : state_->optimizers) {
    const auto groups = slot.optimizer->param_groups().size();
    const bool is_own = &slot == &state_->optimizers.front();
    for (std::size_t i = 0; i < groups; ++i) names.push_back(rate_name(slot, is_own, i));
  }
  names.insert(names.end(), {"rows_per_second", "seconds"});
  if (!accelerator().device().is_cpu()) names.emplace_back("peak_device_bytes");
  for (const auto& [name, metric, phases] : state_->metrics) {
    if (phases == MetricPhases::kTrainingAndEvaluation) names.push_back("train_" + name);
  }
  if (config.eval_rows) {
    for (const auto& name : evaluation_metrics()) names.push_back("eval_" + name);
  }
  if (config.clip_gradient_norm || config.track_gradient_norm) {
    names.emplace_back("train_gradient_norm");
  }
  if (may_skip(config)) names.emplace_back("skipped_updates");
  if (is_scaled(config)) names.emplace_back("loss_scale");
  if (config.total_updates) names.emplace_back("eta_seconds");
  return names;
}

std::vector<std::string> Trainer::metric_names() const {
  auto names = own_metric_names();
  for (const auto& callback : state_->callbacks) {
    for (auto& name : callback->metric_names(*this)) names.push_back(std::move(name));
  }
  return names;
}

// What two write under one name would be the one's in some rows and the other's in others.
void Trainer::check_metric_names() const {
  std::map<std::string, std::string> owners;
  for (auto& name : own_metric_names()) owners.emplace(std::move(name), "the run itself");
  for (const auto& callback : state_->callbacks) {
    for (auto& name : callback->metric_names(*this)) {
      const auto [known, is_new] = owners.emplace(std::move(name), callback->name());
      if (is_new) continue;
      throw ArgumentError(concat(callback->name(), ": its metric '", known->first,
                                 "' is also one of ", known->second, "; give it another prefix"));
    }
  }
}

void Trainer::require_metric(const std::string& watcher, const std::string& name) const {
  const auto names = metric_names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  // The steps of a subclass may report scalars, whose names come with the first of them.
  const auto& self = *this;
  const bool may_be_scalar = name.starts_with("train_") || name.find("eval_") != name.npos;
  if (typeid(self) != typeid(Trainer) && may_be_scalar) return;
  std::string list;
  for (const auto& known : names) list += (list.empty() ? "" : ", ") + known;
  throw ArgumentError(concat(watcher, ": there will be no metric '", name, "'; did you mean '",
                             nearest(name, names), "'? There will be: ", list,
                             run_config().eval_rows ? "" : "; eval_... need an eval_dataset"));
}

}  // namespace torch_accelerated
