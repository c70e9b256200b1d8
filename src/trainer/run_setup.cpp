// SPDX-License-Identifier: Apache-2.0
// What comes before the first event of a run: what was asked is checked, then resolved once.
#include <torch/torch.h>

#include <algorithm>
#include <unordered_map>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

constexpr std::int64_t kDefaultBatchSize = 8;

using Parameters = std::unordered_map<const c10::TensorImpl*, std::string>;

// Names of all trainable parameters; a tensor under two names counts once.
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

std::int64_t count_numbers(const TrainerState& state) {
  std::int64_t numbers = 0;
  for (const auto& [tensor, name] : trainable_parameters(state)) numbers += tensor->numel();
  return numbers;
}

void check_numbers(OptionCheck& check, const TrainOptions& options) {
  const auto at_least_one = [&](const char* name, std::optional<std::int64_t> value) {
    check.require(!value || *value >= 1, concat(name, " must be >= 1, got ", value.value_or(1)));
  };
  at_least_one("per_device_batch_size", options.per_device_batch_size);
  at_least_one("global_batch_size", options.global_batch_size);
  at_least_one("eval_per_device_batch_size", options.eval_per_device_batch_size);
  at_least_one("max_updates", options.max_updates);
  at_least_one("gradient_accumulation_steps", options.gradient_accumulation_steps);
  at_least_one("limit_train_batches", options.limit_train_batches);
  at_least_one("limit_eval_batches", options.limit_eval_batches);
  const auto positive = [&](const char* name, std::optional<double> value) {
    check.require(!value || *value > 0, concat(name, " must be > 0, got ", value.value_or(1),
                                               "; leave it out to clip nothing"));
  };
  positive("clip_gradient_norm", options.clip_gradient_norm);
  positive("clip_gradient_value", options.clip_gradient_value);
}

void check_batch_sizes(OptionCheck& check, const TrainOptions& options) {
  if (!options.global_batch_size) return;
  const auto global = *options.global_batch_size;
  const auto steps = options.gradient_accumulation_steps;
  check.require(!options.per_device_batch_size,
                concat("per_device_batch_size ", options.per_device_batch_size.value_or(0),
                       " and global_batch_size ", global, " are both given; give one of them"));
  check.require(global < 1 || steps < 1 || global % steps == 0,
                concat("global_batch_size ", global, " can't be cut into ", steps,
                       " equal micro-batches; make it a multiple of gradient_accumulation_steps"));
}

// A tensor held twice would be stepped twice; one that no module holds isn't what the run trains.
void check_optimizer(OptionCheck& check, const OptimizerSlot& slot, const Parameters& trainable) {
  std::unordered_map<const c10::TensorImpl*, int> seen;
  std::size_t trained = 0;
  for (const auto& group : slot.optimizer->param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto* tensor = parameter.unsafeGetTensorImpl();
      const auto named = trainable.find(tensor);
      if (named != trainable.end()) ++trained;
      const auto name = named != trainable.end() ? "'" + named->second + "'"
                                                 : concat("of shape ", parameter.sizes());
      check.require(++seen[tensor] != 2,
                    concat("optimizer '", slot.name, "' holds the tensor ", name,
                           " twice; give each parameter once, also where two names share it"));
    }
  }
  check.require(dynamic_cast<const torch::optim::LBFGS*>(slot.optimizer) == nullptr,
                concat("optimizer '", slot.name,
                       "' is an LBFGS, which evaluates the loss several times a step and needs a "
                       "closure; use a loop of your own for it, or another optimizer"));
  check.require(trained > 0,
                concat("optimizer '", slot.name,
                       "' holds none of the run's trainable parameters; make it from "
                       "model->parameters(), or add its module with register_module()"));
}

void check_objects(OptionCheck& check, const TrainerState& state) {
  const auto trainable = trainable_parameters(state);
  check.require(!state.model.module().parameters().empty(),
                "the model has no parameters; register its parts with register_module() or "
                "register_parameter()");
  for (const auto& slot : state.optimizers) check_optimizer(check, slot, trainable);
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

DataLoaderOptions loader_options(const LoaderOptions& asked, bool shuffle,
                                 std::int64_t batch_size) {
  return {.batch_size = batch_size,
          .shuffle = asked.shuffle.value_or(shuffle),
          .drop_last = asked.drop_last,
          .num_workers = asked.num_workers,
          .prefetch_batches = asked.prefetch_batches};
}

std::int64_t train_batch_rows(const TrainOptions& options) {
  if (options.global_batch_size && options.gradient_accumulation_steps >= 1) {
    return *options.global_batch_size / options.gradient_accumulation_steps;
  }
  return options.per_device_batch_size.value_or(kDefaultBatchSize);
}

std::int64_t eval_batch_rows(const TrainOptions& options) {
  return options.eval_per_device_batch_size.value_or(train_batch_rows(options));
}

}  // namespace

void check_loader(OptionCheck& check, const std::string& name, const LoaderOptions& loader,
                  std::optional<std::int64_t> rows, std::int64_t batch_size) {
  check.require(loader.num_workers >= 0,
                concat(name, ".num_workers must be >= 0, got ", loader.num_workers));
  check.require(loader.prefetch_batches >= 1,
                concat(name, ".prefetch_batches must be >= 1, got ", loader.prefetch_batches));
  check.require(
      !loader.drop_last || !rows || *rows < 1 || *rows >= batch_size,
      concat(name, ".drop_last leaves nothing of ", rows.value_or(0), " rows in batches of ",
             batch_size, "; lower the batch size or leave drop_last out"));
}

void check_run(const char* call, const TrainOptions& options, std::optional<std::int64_t> rows,
               const TrainerState& state) {
  OptionCheck check(call);
  const bool owns_loop = std::string_view(call) == "train";
  check.require(!owns_loop || options.num_epochs >= 1,
                concat("num_epochs must be >= 1, got ", options.num_epochs));
  check.require(rows.value_or(1) > 0,
                "the training dataset is empty; give one with at least one sample");
  check.require(!options.eval_dataset || options.eval_dataset.size() > 0,
                "eval_dataset is empty; give one with at least one sample, or leave it out");
  check_numbers(check, options);
  check_batch_sizes(check, options);
  check_loader(check, "train_loader", options.train_loader, rows, train_batch_rows(options));
  check_loader(check, "eval_loader", options.eval_loader,
               options.eval_dataset ? std::optional(options.eval_dataset.size()) : std::nullopt,
               eval_batch_rows(options));
  check_objects(check, state);
  check.throw_if_any();
}

RunConfig Trainer::create_run_config(const TrainOptions& options, const BatchSource* source) {
  const auto& state = *state_;
  RunConfig config;
  config.num_epochs = source != nullptr ? options.num_epochs : 1;
  config.gradient_accumulation_steps = options.gradient_accumulation_steps;
  if (const auto* loader = dynamic_cast<const DataLoader*>(source)) {
    config.per_device_batch_size = loader->options().batch_size;
    config.global_batch_size =
        product(config.per_device_batch_size, config.gradient_accumulation_steps);
  }
  if (source != nullptr && source->size()) {
    config.batches_per_epoch = source->size();
    config.train_rows = source->rows_of(0, *config.batches_per_epoch);
    auto& batches = *config.batches_per_epoch;
    batches = std::min(batches, options.limit_train_batches.value_or(batches));
    const auto steps = config.gradient_accumulation_steps;
    config.updates_per_epoch = batches / steps + (batches % steps != 0 ? 1 : 0);
    config.total_updates = product(*config.updates_per_epoch, config.num_epochs);
  }
  config.max_updates = options.max_updates;
  if (options.max_updates) {
    config.total_updates =
        std::min(*options.max_updates, config.total_updates.value_or(*options.max_updates));
  }
  if (options.eval_dataset) {
    config.eval_rows = options.eval_dataset.size();
    config.eval_per_device_batch_size = eval_batch_rows(options);
    config.limit_eval_batches = options.limit_eval_batches;
  }
  config.limit_train_batches = options.limit_train_batches;
  config.clip_gradient_norm = options.clip_gradient_norm;
  config.clip_gradient_value = options.clip_gradient_value;
  config.non_finite = options.non_finite;
  config.seed = options.seed;
  config.device = state.accelerator->device().str();
  config.mixed_precision = to_string(state.accelerator->mixed_precision());
  config.world_size = state.accelerator->world_size();
  config.optimizers = described_optimizers(state);
  config.parameters = count_numbers(state);
  return config;
}

void Trainer::set_up_run() {
  auto& state = *state_;
  auto& run = *state.run;
  if (run.options.reset_history) state.history.reset();
  run.only_own_parameters = state.optimizers.size() > 1 || !optimizers_hold_everything(state);
  if (run.options.eval_dataset) {
    run.eval_source = create_eval_dataloader(
        run.options.eval_dataset,
        default_eval_loader_options(run.options.eval_loader, eval_batch_rows(run.options)));
  }
  if (run.options.eval_dataset && !run.eval_source) {
    throw StateError(
        "create_eval_dataloader returned null; return a loader, such as the Trainer's own");
  }
  state.config = create_run_config(run.options, run.source);
  state.config->scheduler = "none";
  for (auto& slot : state.optimizers) {
    slot.optimizer->zero_grad();
    slot.rates_before_run = rates_of(*slot.optimizer);
    slot.scheduler = create_scheduler(*slot.optimizer, run.options, *state.config);
    if (slot.scheduler) {
      state.config->scheduler = slot.scheduler->name();
    } else {
      slot.rates_before_run.clear();  // nobody changes them
    }
  }
  state.progress.learning_rate = optimizer().param_groups().front().options().get_lr();
}

std::unique_ptr<BatchSource> Trainer::create_train_dataloader(Dataset dataset,
                                                              const DataLoaderOptions& options) {
  return accelerator().prepare(std::move(dataset), options);
}

std::unique_ptr<BatchSource> Trainer::create_eval_dataloader(Dataset dataset,
                                                             const DataLoaderOptions& options) {
  return accelerator().prepare(std::move(dataset), options);
}

DataLoaderOptions Trainer::default_train_loader_options(const TrainOptions& options) const {
  auto loader = loader_options(options.train_loader, /*shuffle=*/true, train_batch_rows(options));
  loader.seed = options.seed;
  return loader;
}

DataLoaderOptions Trainer::default_eval_loader_options(const LoaderOptions& options,
                                                       std::int64_t batch_size) const {
  return loader_options(options, /*shuffle=*/false, batch_size);
}

std::unique_ptr<Scheduler> Trainer::create_scheduler(torch::optim::Optimizer& optimizer,
                                                     const TrainOptions& options,
                                                     const RunConfig& config) {
  return options.scheduler ? options.scheduler(optimizer, config) : nullptr;
}

}  // namespace torch_accelerated
