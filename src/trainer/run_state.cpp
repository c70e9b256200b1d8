// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_state.h"

#include <torch/torch.h>

#include <algorithm>
#include <unordered_map>

#include "accelerator/random_state.h"
#include "base/text.h"
#include "checkpoint/tensor_file.h"
#include "core/named_tensors.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::string prefixed(const std::string& module, const std::string& name) {
  return module.empty() ? name : module + "." + name;
}

State position_of(const TrainerState& state) {
  const auto& progress = state.progress;
  const auto& run = *state.run;
  std::string order;
  for (const auto* optimizer : run.order) {
    for (const auto& slot : state.optimizers) {
      if (slot.optimizer == optimizer) order += slot.name + "\n";
    }
  }
  State position;
  position.set("in_epoch", run.in_epoch)
      .set("epoch", progress.epoch)
      .set("update", progress.update)
      .set("micro_batch", progress.micro_batch)
      .set("micro_batches_per_update", state.config->micro_batches_per_update)
      .set("skipped_updates", progress.skipped_updates)
      .set("loss", progress.loss)
      .set("learning_rate", progress.learning_rate)
      .set("first_epoch", run.first_epoch)
      .set("optimizer_order", order);
  return position;
}

State schedulers_of(const TrainerState& state) {
  State schedulers;
  for (const auto& slot : state.optimizers) {
    schedulers.set(slot.name + "/rates", slot.rates);
    if (!slot.scheduler) continue;
    schedulers.set(slot.name + "/name", slot.scheduler->name());
    schedulers.set_part(slot.name + "/state", slot.scheduler->state());
  }
  return schedulers;
}

State callbacks_of(const TrainerState& state) {
  State callbacks;
  for (const auto& callback : state.callbacks) {
    const auto kept = callback->state();
    if (kept.empty()) continue;
    callbacks.set(callback->name(), true).set_part(callback->name(), kept);
  }
  return callbacks;
}

}  // namespace

TensorDict module_tensors(const TrainerState& state) {
  TensorDict tensors;
  for (const auto& [module_name, model] : state.modules) {
    for (const auto& [name, tensor] : named_tensors(model.module())) {
      const auto full_name = prefixed(module_name, name);
      if (tensors.contains(full_name)) {
        throw ArgumentError(concat("the name '", full_name, "' is a tensor's of the model and of '",
                                   module_name,
                                   "', so that a checkpoint can't hold both; register_module() it "
                                   "under another name"));
      }
      tensors.set(full_name, tensor);
    }
  }
  return tensors;
}

TensorDict module_buffers(const TrainerState& state) {
  TensorDict buffers;
  for (const auto& [module_name, model] : state.modules) {
    for (const auto& [name, buffer] : named_buffers(model.module())) {
      buffers.set(prefixed(module_name, name), buffer);
    }
  }
  return buffers;
}

ParameterNames parameter_names(const TrainerState& state) {
  ParameterNames names;
  for (const auto& [module_name, model] : state.modules) {
    for (const auto& parameter : model.module().named_parameters()) {
      names.emplace(parameter.value().unsafeGetTensorImpl(),
                    prefixed(module_name, parameter.key()));
    }
  }
  return names;
}

CheckpointContents run_contents(TrainerState& state) {
  CheckpointContents contents;
  contents.model = module_tensors(state);
  const auto names = parameter_names(state);
  for (auto& slot : state.optimizers) {
    contents.optimizers.set_part(slot.name, optimizer_state(*slot.optimizer, names));
  }
  State config;
  for (const auto& [field, value] : state.config->fields()) config.set(field, value);
  contents.rest.set_part("config", config);
  contents.rest.set_part("position", position_of(state));
  contents.rest.set_part("schedulers", schedulers_of(state));
  for (const auto& slot : state.optimizers) {
    contents.rest.set_part("windows/" + slot.name,
                           state.accelerator->window_state(*slot.optimizer));
  }
  contents.rest.set_part("history", history_state(*state.history));
  contents.rest.set_part("callbacks", callbacks_of(state));
  return contents;
}

TensorDict rank_contents(TrainerState& state) {
  TensorDict contents;
  for (const auto& [device, generator] : random_states())
    contents.set("random/" + device, generator);
  contents.set("rows", torch::full({}, state.run->rows, torch::kInt64));
  for (const auto& [name, sums] : state.run->means.sums()) contents.set("sums/" + name, sums);
  if (state.accelerator->is_main_process()) return contents;
  // Statistics of layers are each rank's own; the main process's stand with the weights.
  for (const auto& [name, buffer] : module_buffers(state)) contents.set("buffers/" + name, buffer);
  return contents;
}

void check_can_be_saved(TrainerState& state) {
  check_can_be_written(module_tensors(state));
  const auto names = parameter_names(state);
  for (auto& slot : state.optimizers) optimizer_state(*slot.optimizer, names);
}

State history_state(const History& history) {
  // Each row as numbers: how many metrics, epoch, updates, kind, and a name's index with its value.
  std::vector<double> numbers;
  std::unordered_map<std::string, std::size_t> places;
  std::string names;
  for (const auto& row : history.rows()) {
    numbers.insert(numbers.end(),
                   {static_cast<double>(row.metrics.size()), static_cast<double>(row.epoch),
                    static_cast<double>(row.updates), row.is_intermediate ? 1.0 : 0.0});
    for (const auto& [name, value] : row.metrics) {
      const auto [place, is_new] = places.try_emplace(name, places.size());
      if (is_new) names += name + "\n";
      numbers.push_back(static_cast<double>(place->second));
      numbers.push_back(value);
    }
  }
  return State().set("names", names).set("rows", std::move(numbers));
}

std::vector<HistoryRow> history_rows(const State& state) {
  std::vector<std::string> names;
  const auto& text = state.get<std::string>("names");
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto& numbers = state.get<std::vector<double>>("rows");
  std::vector<HistoryRow> rows;
  auto next = numbers.begin();
  const auto take = [&](double most) {
    if (next == numbers.end() || !(*next >= 0 && *next <= most)) {
      throw CheckpointError("the checkpoint's history is malformed; take another checkpoint");
    }
    return static_cast<std::int64_t>(*next++);
  };
  constexpr double kMost = 9007199254740992.0;  // 2^53: exact as a double
  while (next != numbers.end()) {
    const auto metrics = take(kMost);
    HistoryRow row;
    row.epoch = take(kMost);
    row.updates = take(kMost);
    row.is_intermediate = take(1) == 1;
    for (std::int64_t i = 0; i < metrics; ++i) {
      const auto name = take(static_cast<double>(names.size()) - 1);
      if (next == numbers.end()) take(kMost);
      row.metrics.set(names[static_cast<std::size_t>(name)], *next++);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace torch_accelerated
