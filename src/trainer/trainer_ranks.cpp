// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run do so that each takes the same way through the loop.
#include <torch/torch.h>

#include <algorithm>

#include "accelerator/device.h"
#include "base/text.h"
#include "checkpoint/optimizer_options.h"
#include "distributed/contract.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/base/random_stream.h"
#include "torch_accelerated/base/version.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/batch_cursor.h"
#include "trainer/run_objects.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

void add_loader(Contract& contract, const std::string& name, const BatchSource* source) {
  const auto* loader = dynamic_cast<const DataLoader*>(source);
  if (loader == nullptr) return;
  const auto& options = loader->options();
  contract.add(name + " dataset", concat(loader->samples(), " rows"));
  contract.add(name + " batch size", concat(options.batch_size));
  contract.add(name + " shuffle", options.shuffle ? "yes" : "no");
  contract.add(name + " drop_last", options.drop_last ? "yes" : "no");
}

// Gradients are added up in the order in which optimizers hold their parameters.
void add_optimizers(Contract& contract, const TrainerState& state) {
  const auto names = trainable_parameters(state);
  for (const auto& slot : state.optimizers) {
    const auto what = "optimizer '" + slot.name + "'";
    const auto options = described_options(*slot.optimizer);
    const auto& groups = slot.optimizer->param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      contract.add(what, concat("group ", i, ": ", options[i]));
      for (const auto& parameter : groups[i].params()) {
        const auto known = names.find(parameter.unsafeGetTensorImpl());
        contract.add(what + " parameter", known == names.end()
                                              ? concat("of shape ", parameter.sizes())
                                              : "'" + known->second + "'");
      }
    }
    if (slot.scheduler) {
      contract.add("scheduler of " + what,
                   slot.scheduler->name() + ": " + slot.scheduler->settings());
    }
  }
}

// Those that ask something of the run or keep state; others may be on some ranks only.
void add_callbacks(Contract& contract, const CallbackList& callbacks) {
  for (const auto& callback : callbacks) {
    if (!callback->concerns_all_ranks() && callback->state().empty()) continue;
    const auto settings = callback->settings();
    contract.add("callback", callback->name() + (settings.empty() ? "" : ": " + settings));
  }
}

}  // namespace

void TrainerState::check_kind_of_rows() {
  if (accelerator->world_size() == 1) return;
  Contract contract("train");
  contract.add("rows", run->sharing.is_per_rank ? "per rank" : "shared");
  contract.add("loop", run->source != nullptr ? "train" : "start");
  contract.check(accelerator->communicator());
}

void TrainerState::check_evaluation_ranks(const BatchSource& source,
                                          std::optional<std::int64_t> limit) {
  if (accelerator->world_size() == 1) return;
  Contract contract("evaluate");
  add_loader(contract, "evaluation", &source);
  contract.add("limit_batches", concat(limit.value_or(-1)));
  contract.check(accelerator->communicator());
}

// Everything that decides which way a run takes has to be the same on all ranks.
void TrainerState::check_ranks() {
  if (accelerator->world_size() == 1) return;
  Contract contract("train");
  contract.add("library version", kVersion);
  for (const auto& [field, value] : config->fields()) {
    if (field != "device" && field != "memory") contract.add(field, value);
  }
  if (!run->sharing.is_per_rank) add_loader(contract, "training", run->source);
  add_loader(contract, "evaluation", run->eval_source.get());
  add_optimizers(contract, *this);
  add_callbacks(contract, callbacks);
  for (const auto& metric : metrics) contract.add("metric", metric.name);
  contract.check(accelerator->communicator());
}

// Of sources that ranks have of their own, the longest counts.
void TrainerState::exchange_lengths() {
  if (!run->sharing.is_per_rank || run->source == nullptr) return;
  const auto size = run->source->size();
  const auto rows = size ? run->source->rows_of(0, *size) : std::nullopt;
  const auto mine = torch::tensor({size.value_or(-1), rows.value_or(-1)}, torch::kInt64);
  run->longest = 0;
  run->rows_of_all = 0;
  for (const auto& part : accelerator->communicator().all_gather(mine)) {
    const auto* lengths = part.const_data_ptr<std::int64_t>();
    if (lengths[0] < 0) run->longest.reset();
    if (lengths[1] < 0) run->rows_of_all.reset();
    if (run->longest) run->longest = std::max(*run->longest, lengths[0]);
    if (run->rows_of_all) *run->rows_of_all += lengths[1];
  }
}

void TrainerState::begin_source(const BatchCursor& cursor) {
  if (!run->sharing.is_per_rank) return;
  tell_of_more(cursor);
  accelerator->exchange_triggers();
}

void TrainerState::tell_of_more(const BatchCursor& cursor) {
  if (cursor.has_more()) {
    accelerator->set_trigger(Trigger::kMore);
  } else {
    accelerator->withdraw_trigger(Trigger::kMore);
  }
}

bool TrainerState::has_more(const BatchCursor& cursor) const {
  if (!run->sharing.is_per_rank) return cursor.has_more();
  return accelerator->is_triggered(Trigger::kMore);
}

// A rank whose own source has ended goes on without rows for as long as any other has some.
std::optional<Batch> TrainerState::next_batch(BatchCursor& cursor) {
  auto batch = cursor.next();
  if (!run->sharing.is_per_rank) return batch;
  if (!batch && !has_more(cursor)) return batch;
  if (!batch) batch = cursor.nothing();
  tell_of_more(cursor);
  return batch;
}

std::optional<EpochMeans::Shards> TrainerState::shards() const {
  if (!config || config->deterministic_shards == 0) return std::nullopt;
  return EpochMeans::Shards{accelerator->rank(), config->micro_batches_per_update};
}

// Random numbers of the model that don't depend on what else the process draws. One process draws
// them from the program's own generators, as a plain loop does.
void TrainerState::seed_micro_batch() {
  if (!run->random) return;
  const auto rank = static_cast<std::int64_t>(accelerator->rank());
  if (config->deterministic_shards == 0 && run->place_in_window > 0) return;
  const auto stream = config->deterministic_shards > 0
                          ? rank * config->micro_batches_per_update + run->place_in_window
                          : rank;
  RandomStream key(config->seed, static_cast<std::uint64_t>(progress.update),
                   static_cast<std::uint64_t>(stream) + (std::uint64_t{1} << 63));
  run->random->reseed(key());
}

bool TrainerState::has_sync_batch_norm() const {
  for (const auto& [name, module] : modules) {
    for (const auto& part : module.module_ptr()->modules()) {
      if (part->as<SyncBatchNormImpl>() != nullptr) return true;
    }
  }
  return false;
}

bool TrainerState::stops() const {
  return (run && run->stops) || accelerator->is_triggered(Trigger::kStop);
}

bool TrainerState::stops_now() {
  accelerator->exchange_triggers();
  return stops();
}

bool TrainerState::may_cut_evaluation() const { return run && !run->checkpoints; }

std::string TrainerState::agreed_stop_reason() {
  if (!stops()) return {};
  if (accelerator->world_size() == 1) return stop.reason();
  const auto reasons = accelerator->gather_objects(stop.reason());
  const auto first = std::find_if(reasons.begin(), reasons.end(),
                                  [](const std::string& reason) { return !reason.empty(); });
  return first == reasons.end() ? "no reason was given" : *first;
}

EpochSummary TrainerState::summed_up(const EpochMeans& means, std::int64_t rows, double seconds,
                                     std::string_view prefix) {
  const auto peak = peak_device_bytes(accelerator->device());
  if (accelerator->world_size() == 1) {
    return {EpochMeans::values({means.packed()}, prefix), rows, seconds, peak};
  }
  const auto numbers =
      torch::tensor({static_cast<double>(rows), seconds, peak.value_or(0)}, torch::kFloat64);
  EpochSummary summary{EpochMeans::values(accelerator->gather_objects(means.packed()), prefix)};
  const auto parts = accelerator->communicator().all_gather(numbers);
  summary.peak_device_bytes = peak;
  for (const auto& part : parts) {
    const auto* of_rank = part.const_data_ptr<double>();
    summary.rows += static_cast<std::int64_t>(of_rank[0]);
    if (peak) summary.peak_device_bytes = std::max(*summary.peak_device_bytes, of_rank[2]);
  }
  // The main process's clock: what callbacks see has to be the same on all ranks.
  summary.seconds = parts.front().const_data_ptr<double>()[1];
  return summary;
}

double TrainerState::main_clock(double seconds) {
  if (accelerator->world_size() == 1) return seconds;
  return accelerator->broadcast(torch::full({1}, seconds, torch::kFloat64)).item<double>();
}

std::string TrainerState::ranks_not_finite() const {
  if (accelerator->world_size() == 1) return {};
  std::string text;
  for (const int rank : accelerator->ranks_not_finite()) {
    text += concat(text.empty() ? " on rank " : ", ", rank);
  }
  return text;
}

}  // namespace torch_accelerated
