// SPDX-License-Identifier: Apache-2.0
#include "trainer/resumption.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>

#include "accelerator/random_state.h"
#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/optimizer_state.h"
#include "checkpoint/tensor_file.h"
#include "checkpoint/undamaged_checkpoint.h"
#include "core/named_tensors.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"
#include "trainer/run_state.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

// Fields that say where a run runs, not what it does.
constexpr std::array<std::string_view, 3> kPlace{"device", "gradient reduction", "memory"};

// Those that follow from the number of ranks.
constexpr std::array<std::string_view, 4> kOfRanks{"world size", "per-device batch size",
                                                   "evaluation batch size", "batches per epoch"};

template <std::size_t Size>
bool is_one_of(const std::array<std::string_view, Size>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What stands under `prefix` of a rank's file, without it.
TensorDict tensors_under(const std::string& prefix, const TensorDict& tensors) {
  TensorDict part;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) part.set(name.substr(prefix.size()), tensor);
  }
  return part;
}

void load_callbacks(const State& states, const TrainerState& state) {
  for (const auto& callback : state.callbacks) {
    const auto name = callback->name();
    if (states.contains(name)) callback->load_state(states.part(name));
  }
}

void check_weights(const TensorReader& reader, const TensorDict& tensors) {
  std::unordered_map<std::string_view, const SafetensorsEntry*> entries;
  for (const auto& entry : reader.tensors()) entries.emplace(entry.name, &entry);
  for (const auto& [name, tensor] : tensors) {
    const auto found = entries.find(name);
    if (found == entries.end()) {
      throw CheckpointError(concat("the model's tensor '", name, "' is not in '", reader.path(),
                                   "'; the checkpoint is of another model"));
    }
    const auto& entry = *found->second;
    if (entry.shape != tensor.sizes().vec() || !has_dtype_of(entry, tensor)) {
      throw CheckpointError(concat("the model's tensor '", name, "' is ", described(tensor),
                                   ", in '", reader.path(), "' it is ", described(entry),
                                   "; the checkpoint is of another model"));
    }
    entries.erase(found);
  }
  if (!entries.empty()) {
    // The first in the file's order, so that all ranks say the same.
    for (const auto& entry : reader.tensors()) {
      if (entries.count(entry.name) == 0) continue;
      throw CheckpointError(concat("'", reader.path(), "' has the tensor '", entry.name,
                                   "', which the model lacks; the checkpoint is of another model"));
    }
  }
}

}  // namespace

Resumption::Resumption(const std::filesystem::path& folder) : saved_(folder) {
  rest_ = saved_.rest();
  optimizers_ = saved_.optimizers();
  position_ = rest_.part("position");
  check_position();
}

// Numbers that no run has come to would be believed by sources and schedulers.
void Resumption::check_position() const {
  const auto number = [this](const char* name, std::int64_t least, std::int64_t most) {
    const auto value = position_.get<std::int64_t>(name);
    if (value >= least && value <= most) return value;
    throw CheckpointError(concat("'", folder().string(), "' is of ", name, " ", value,
                                 ", expected ", least, " to ", most, "; take another checkpoint"));
  };
  number("epoch", 0, kLargestNumber);
  number("micro_batch", 0, kLargestNumber);
  number("micro_batches_per_update", 1, kLargestNumber);
  number("first_epoch", 0, kLargestNumber);
  number("skipped_updates", 0, number("update", 0, kLargestNumber));
}

bool Resumption::on_as_many_ranks(const TrainerState& state) const {
  return saved_.manifest().world_size == state.accelerator->world_size();
}

void Resumption::fit(TrainOptions& options, const Accelerator& accelerator) const {
  if (saved_.manifest().world_size == accelerator.world_size() || options.global_batch_size) return;
  const auto& rows_of_update = rest_.get<std::string>("config/global batch size");
  const bool is_known = rows_of_update.find_first_not_of("0123456789") == std::string::npos &&
                        rows_of_update.find_first_not_of('0') != std::string::npos &&
                        rows_of_update.size() < 19;
  if (options.rows == Rows::kPerRank || !is_known) {
    throw ArgumentError(concat("resume_from: the checkpoint is of ", saved_.manifest().world_size,
                               " ranks with rows of their own, here are ", accelerator.world_size(),
                               "; start as many"));
  }
  options.global_batch_size = std::stoll(rows_of_update);
  options.per_device_batch_size.reset();
}

void Resumption::give_modules(TrainerState& state) const {
  const auto model = saved_.model();
  const auto tensors = module_tensors(state);
  for (const auto& entry : model->tensors()) read_into(*model, entry, tensors[entry.name]);
  state.history->reset();
  for (auto& row : history_rows(rest_.part("history"))) {
    if (!row.is_intermediate) state.run->metrics = row.metrics;
    state.history->append(std::move(row));
  }
  state.run->first_epoch = position_.get<std::int64_t>("first_epoch");
  auto& progress = state.progress;
  progress.epoch = position_.get<std::int64_t>("epoch");
  progress.update = position_.get<std::int64_t>("update");
  progress.skipped_updates = position_.get<std::int64_t>("skipped_updates");
  progress.loss = position_.get<double>("loss");
  progress.learning_rate = position_.get<double>("learning_rate");
  give_buffers(state);
  load_callbacks(rest_.part("callbacks"), state);
}

// The main process's stand with the weights; on another number of ranks all begin with those.
void Resumption::give_buffers(const TrainerState& state) const {
  if (!on_as_many_ranks(state) || state.accelerator->is_main_process()) return;
  const auto rank = state.accelerator->rank();
  const auto buffers = tensors_under("buffers/", saved_.rank(rank));
  if (buffers.empty()) return;  // an older version didn't keep them
  try {
    copy_into(buffers, module_buffers(state), concat("rank ", rank, "'s buffers"));
  } catch (const StateError& error) {
    throw CheckpointError(concat("'", folder().string(), "': ", error.what()));
  }
}

void Resumption::check_config(const TrainerState& state) const {
  check_weights(*saved_.model(), module_tensors(state));
  const auto saved = rest_.part("config");
  const bool same_ranks = on_as_many_ranks(state);
  std::string differences;
  for (const auto& [field, value] : state.config->fields()) {
    if (is_one_of(kPlace, field) || (!same_ranks && is_one_of(kOfRanks, field))) continue;
    if (!saved.contains(field)) continue;  // an older version didn't have it
    const auto& then = saved.get<std::string>(field);
    if (then == value) continue;
    differences += concat(differences.empty() ? "" : "; ", field, " was ", then, " and is ", value);
  }
  const auto warn = [&](const std::string& line) {
    if (state.accelerator->is_main_process()) log(LogLevel::kWarning, "resume_from: " + line);
  };
  if (!differences.empty() && !state.run->options.resume_with_changes) {
    throw ArgumentError(concat("resume_from: the run is another than that of '", folder().string(),
                               "': ", differences,
                               "; ask for the same run, or set resume_with_changes"));
  }
  if (!differences.empty()) warn("the run has changed: " + differences);
  if (!same_ranks) {
    warn(concat("the checkpoint is of ", saved_.manifest().world_size, " ranks, here are ",
                state.accelerator->world_size(), ": ", state.config->global_batch_size,
                " rows an update as before, random numbers from other streams"));
  }
  const auto callbacks = rest_.part("callbacks");
  for (const auto& entry : callbacks.values()) {
    const auto& name = entry.first;
    if (!std::holds_alternative<bool>(entry.second) || name.find('/') != name.npos) continue;
    const auto has_name = [&](const auto& callback) { return callback->name() == name; };
    if (std::any_of(state.callbacks.begin(), state.callbacks.end(), has_name)) continue;
    warn(concat("the checkpoint has the state of a callback '", name, "', which this run lacks"));
  }
}

void Resumption::give_optimizers(TrainerState& state) const {
  const auto names = parameter_names(state);
  const auto schedulers = rest_.part("schedulers");
  for (auto& slot : state.optimizers) {
    const auto own = optimizers_.part(slot.name);
    const auto what = "optimizer '" + slot.name + "'";
    if (own.empty()) {
      throw CheckpointError(concat("'", folder().string(), "' has no state of the ", what,
                                   "; add the optimizers that the saved run had"));
    }
    load_optimizer_state(*slot.optimizer, names, own, what);
    if (on_as_many_ranks(state)) {
      const auto window = rest_.part("windows/" + slot.name);
      state.accelerator->load_window_state(*slot.optimizer, window);
    }
    const auto driver = schedulers.part(slot.name);
    slot.rates = driver.get<std::vector<double>>("rates");
    if (!slot.scheduler) continue;
    const bool is_same =
        driver.contains("name") && driver.get<std::string>("name") == slot.scheduler->name();
    if (is_same) {
      slot.scheduler->load_state(driver.part("state"));
      continue;
    }
    // Another one, where changes are accepted, comes to the same update.
    const auto updates = state.progress.update - state.progress.skipped_updates;
    for (std::int64_t update = 0; update < updates; ++update) slot.scheduler->step();
  }
  auto& order = state.run->order;
  const auto& text = position_.get<std::string>("optimizer_order");
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    for (const auto& slot : state.optimizers) {
      if (slot.name == text.substr(begin, end - begin)) order.push_back(slot.optimizer);
    }
    begin = end + 1;
  }
}

bool Resumption::in_epoch() const { return position_.get<bool>("in_epoch"); }

void Resumption::give_position(TrainerState& state) const {
  auto& run = *state.run;
  auto& progress = state.progress;
  const int rank = state.accelerator->rank();
  progress.micro_batch = position_.get<std::int64_t>("micro_batch");
  const auto window = position_.get<std::int64_t>("micro_batches_per_update");
  const auto now = state.config->micro_batches_per_update;
  if (window != now) progress.micro_batch = progress.micro_batch / window * now;
  // A rank whose own source is shorter than others' has been at its end for a while.
  const auto size = run.source != nullptr ? run.source->size() : std::nullopt;
  const auto place = std::min(progress.micro_batch, size.value_or(progress.micro_batch));
  const bool positioned =
      run.source == nullptr || run.source->set_position(progress.epoch - 1, place);
  const auto& most = state.config->max_updates;
  const bool has_more = !most || progress.update < *most;
  if (state.accelerator->any(!positioned) && has_more) {
    if (state.accelerator->is_main_process()) {
      log(LogLevel::kWarning,
          concat("resume_from: the source of batches has no position; epoch ", progress.epoch,
                 " begins again. Override set_position() to go on within it"));
    }
    progress.micro_batch = 0;
    if (run.source != nullptr) run.source->start_epoch(progress.epoch - 1);
    return;
  }
  // Sums of ranks that aren't there any more are the main process's.
  const int saved_ranks = saved_.manifest().world_size;
  state.accelerator->together("resume_from", [&] {
    for (int saved = 0; saved < saved_ranks; ++saved) {
      const bool is_mine = on_as_many_ranks(state) ? saved == rank : rank == 0;
      if (!is_mine) continue;
      const auto tensors = saved_.rank(saved);
      run.rows += tensors["rows"].item<std::int64_t>();
      run.means.add_sums(tensors_under("sums/", tensors));
    }
  });
  run.means.skip_to(progress.micro_batch);
}

void Resumption::give_observers(TrainerState& state) const {
  load_callbacks(rest_.part("callbacks"), state);
  if (!on_as_many_ranks(state)) return;
  set_random_states(tensors_under("random/", saved_.rank(state.accelerator->rank())));
}

std::unique_ptr<Resumption> open_resumption(const TrainOptions& options, Accelerator& accelerator) {
  // What the main process has found counts, also where another rank sees something else.
  std::string chosen;
  accelerator.together("resume_from", [&] {
    if (!accelerator.is_main_process() || !options.resume_from) return;
    chosen = options.resume_with_earlier ? newest_undamaged(*options.resume_from).string()
                                         : options.resume_from->string();
  });
  if (accelerator.world_size() > 1) chosen = accelerator.gather_objects(chosen).front();
  if (chosen.empty()) return nullptr;
  std::unique_ptr<Resumption> resumption;
  accelerator.together("resume_from", [&] { resumption = std::make_unique<Resumption>(chosen); });
  return resumption;
}

}  // namespace torch_accelerated
