// SPDX-License-Identifier: Apache-2.0
// What was asked of a run is resolved, once, before the first event.
#include <torch/torch.h>

#include <algorithm>
#include <limits>

#include "base/arithmetic.h"
#include "base/text.h"
#include "schedulers/momentum.h"
#include "torch_accelerated/base/error.h"
#include "trainer/resumption.h"
#include "trainer/run_objects.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

std::int64_t count_numbers(const TrainerState& state) {
  std::int64_t numbers = 0;
  for (const auto& [tensor, name] : trainable_parameters(state)) numbers += tensor->numel();
  return numbers;
}

bool optimizers_hold_everything(const TrainerState& state) {
  std::size_t held = 0;
  const auto trainable = trainable_parameters(state);
  for (const auto& group : state.optimizers.front().optimizer->param_groups()) {
    for (const auto& parameter : group.params()) {
      held += trainable.count(parameter.unsafeGetTensorImpl());
    }
  }
  return held == trainable.size();
}

std::vector<double> rates_of(const torch::optim::Optimizer& optimizer) {
  std::vector<double> rates;
  for (const auto& group : optimizer.param_groups()) rates.push_back(group.options().get_lr());
  return rates;
}

std::vector<std::optional<double>> momenta_of(const torch::optim::Optimizer& optimizer) {
  std::vector<std::optional<double>> momenta;
  momenta.reserve(optimizer.param_groups().size());
  for (const auto& group : optimizer.param_groups())
    momenta.push_back(momentum_of(group.options()));
  return momenta;
}

std::string described_optimizers(const TrainerState& state) {
  std::string text;
  for (const auto& slot : state.optimizers) {
    auto& optimizer = *slot.optimizer;
    auto type = c10::demangle(typeid(optimizer).name());
    if (const auto last = type.rfind("::"); last != std::string::npos) type.erase(0, last + 2);
    if (!text.empty()) text += ", ";
    if (state.optimizers.size() > 1) text += slot.name + " ";
    text += concat(type, " lr ", optimizer.param_groups().front().options().get_lr());
  }
  return text;
}

std::string described_steps(const TrainerState& state) {
  std::string text;
  for (const auto& slot : state.optimizers) {
    text += (text.empty() ? "" : ", ") + state.accelerator->step_description(*slot.optimizer);
  }
  return text;
}

void set_batch_sizes(RunConfig& config, const TrainOptions& options, const BatchSource* source,
                     int ranks) {
  const bool per_rank = options.rows == Rows::kPerRank;
  if (!is_cut_among_ranks(source, ranks) && !per_rank) return;
  const auto* loader = dynamic_cast<const DataLoader*>(source);
  if (per_rank) {
    config.per_device_batch_size = train_batch_rows(options, 1);
    config.global_batch_size =
        product(product(config.per_device_batch_size, ranks), config.gradient_accumulation_steps);
    return;
  }
  const auto rows = loader->options().batch_size;
  const auto parts = config.deterministic_shards > 0 ? config.deterministic_shards : ranks;
  config.per_device_batch_size = ceil_divide(rows, parts);
  config.global_batch_size = product(rows, config.gradient_accumulation_steps);
}

// From one entry of the schedule to the next, all epochs have as many updates.
std::int64_t scheduled_updates(const RunConfig& config, std::int64_t batches) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  std::int64_t updates = 0;
  for (std::int64_t epoch = 1;;) {
    const auto next = config.accumulation_schedule.upper_bound(epoch);
    const auto last = next == config.accumulation_schedule.end()
                          ? config.num_epochs
                          : std::min(next->first - 1, config.num_epochs);
    const auto more =
        product(ceil_divide(batches, config.accumulation_steps(epoch)), last - epoch + 1);
    updates = more > kMost - updates ? kMost : updates + more;
    if (last == config.num_epochs) return updates;
    epoch = last + 1;
  }
}

void set_lengths(RunConfig& config, const TrainOptions& options, const BatchSource* source,
                 const TrainerState& state) {
  if (source == nullptr) return;
  const bool per_rank = state.run->sharing.is_per_rank;
  config.batches_per_epoch = per_rank ? state.run->longest : source->size();
  if (!config.batches_per_epoch) return;
  auto& batches = *config.batches_per_epoch;
  config.train_rows = per_rank ? state.run->rows_of_all : source->rows_of(0, batches);
  const auto window = config.micro_batches_per_update;
  if (options.limit_train_batches) {
    const bool sharded = config.deterministic_shards > 0;
    batches = std::min(batches, product(*options.limit_train_batches, sharded ? window : 1));
  }
  if (config.accumulation_schedule.empty()) {
    config.updates_per_epoch = ceil_divide(batches, window);
    config.total_updates = product(*config.updates_per_epoch, config.num_epochs);
  } else {
    config.total_updates = scheduled_updates(config, batches);
  }
}

}  // namespace

Parameters trainable_parameters(const TrainerState& state) {
  Parameters names;
  for (const auto& [module_name, model] : state.modules) {
    for (const auto& parameter : model.module().named_parameters()) {
      if (!parameter.value().requires_grad()) continue;
      const auto name = module_name.empty() ? parameter.key() : module_name + "." + parameter.key();
      names.emplace(parameter.value().unsafeGetTensorImpl(), name);
    }
  }
  return names;
}

RunConfig Trainer::create_run_config(const TrainOptions& options, const BatchSource* source) {
  const auto& state = *state_;
  const auto& accelerator = *state.accelerator;
  const auto ranks = accelerator.world_size();
  const auto shards = options.deterministic_shards.value_or(0);
  RunConfig config;
  config.num_epochs = source != nullptr ? options.num_epochs : 1;
  config.gradient_accumulation_steps = options.gradient_accumulation_steps;
  config.accumulation_schedule = options.accumulation_schedule;
  config.deterministic_shards = shards;
  config.micro_batches_per_update =
      shards > 0 ? shards / ranks : options.gradient_accumulation_steps;
  set_batch_sizes(config, options, source, ranks);
  set_lengths(config, options, source, state);
  const auto* loader = dynamic_cast<const DataLoader*>(source);
  if (loader != nullptr && !state.run->sharing.is_per_rank) {
    config.shuffle = loader->options().shuffle;
    config.drop_last = loader->options().drop_last;
  }
  config.max_updates = options.max_updates;
  if (options.max_updates) {
    config.total_updates =
        std::min(*options.max_updates, config.total_updates.value_or(*options.max_updates));
  }
  if (options.eval_dataset) {
    config.eval_rows = options.eval_dataset.size();
    config.eval_per_device_batch_size = eval_batch_rows(options, ranks);
    config.limit_eval_batches = options.limit_eval_batches;
    config.sanity_eval_batches = options.sanity_eval_batches;
  }
  config.overfit_batches = options.overfit_batches;
  config.limit_train_batches = options.limit_train_batches;
  config.clip_gradient_norm = options.clip_gradient_norm;
  config.clip_gradient_value = options.clip_gradient_value;
  config.track_gradient_norm = options.track_gradient_norm;
  config.non_finite = options.non_finite;
  config.seed = options.seed;
  config.device = accelerator.device().str();
  config.mixed_precision = to_string(accelerator.mixed_precision());
  config.world_size = ranks;
  config.memory = accelerator.memory_description();
  config.reduction = accelerator.reduction_description();
  if (shards > 0) {
    config.arithmetic = DeterministicArithmetic::description(options.deterministic_threads);
  }
  config.optimizers = described_optimizers(state);
  config.optimizer_steps = described_steps(state);
  config.parameters = count_numbers(state);
  return config;
}

void Trainer::set_up_run() {
  auto& state = *state_;
  auto& run = *state.run;
  const auto& options = run.options;
  const bool several = accelerator().world_size() > 1;
  const bool is_loader = is_cut_among_ranks(run.source, accelerator().world_size());
  run.sharing = {.is_per_rank = several && (options.rows == Rows::kPerRank || !is_loader),
                 .is_sharded = options.deterministic_shards.has_value()};
  state.check_kind_of_rows();
  state.exchange_lengths();
  accelerator().together("train", [&] { set_up_alone(); });
  state.check_ranks();
  check_checkpoints();
  if (options.deterministic_shards) {
    run.arithmetic = std::make_unique<DeterministicArithmetic>(options.deterministic_threads);
  }
  if (several || options.deterministic_shards) {
    run.random = std::make_unique<SeedScope>(options.seed);
  }
}

// The part of it in which ranks don't meet.
void Trainer::set_up_alone() {
  auto& state = *state_;
  auto& run = *state.run;
  if (!run.resumption) {
    if (run.options.reset_history) state.history->reset();
    run.first_epoch = state.history->empty() ? 0 : state.history->rows().back().epoch;
  }
  run.only_own_parameters = state.optimizers.size() > 1 || !optimizers_hold_everything(state);
  if (run.options.eval_dataset) {
    auto loader = default_eval_loader_options(
        run.options.eval_loader, eval_batch_rows(run.options, accelerator().world_size()));
    if (run.options.deterministic_shards) {
      loader.shards = *run.options.deterministic_shards;
      loader.batch_size = product(loader.batch_size / accelerator().world_size(), loader.shards);
    }
    run.eval_source = create_eval_dataloader(run.options.eval_dataset, loader);
  }
  if (run.options.eval_dataset && !run.eval_source) {
    throw StateError(
        "create_eval_dataloader returned null; return a loader, such as the Trainer's own");
  }
  state.config = create_run_config(run.options, run.source);
  state.config->scheduler = "none";
  for (auto& slot : state.optimizers) {
    slot.optimizer->zero_grad();
    slot.rates.clear();
    slot.rates_before_run = rates_of(*slot.optimizer);
    slot.momenta_before_run = momenta_of(*slot.optimizer);
    slot.scheduler = create_scheduler(*slot.optimizer, run.options, *state.config);
    if (slot.scheduler) {
      state.config->scheduler = slot.scheduler->name();
    } else {
      slot.rates_before_run.clear();  // nobody changes them
    }
  }
  for (const auto& slot : state.optimizers) {
    const auto watched = slot.scheduler ? slot.scheduler->watched_metric() : std::string();
    if (!watched.empty()) require_metric(slot.scheduler->name(), watched);
  }
  check_metric_names();
  if (run.resumption) {
    run.resumption->check_config(state);
    run.resumption->give_modules(state);
    run.first_update = state.progress.update;
  } else {  // schedulers may have set another
    state.progress.learning_rate = optimizer().param_groups().front().options().get_lr();
  }
}

std::unique_ptr<Scheduler> Trainer::create_scheduler(torch::optim::Optimizer& optimizer,
                                                     const TrainOptions& options,
                                                     const RunConfig& config) {
  return options.scheduler ? options.scheduler(optimizer, config) : nullptr;
}

}  // namespace torch_accelerated
