// SPDX-License-Identifier: Apache-2.0
// What was asked of a run is checked, all of it at once.
#include <torch/torch.h>

#include "accelerator/fused_step.h"
#include "base/text.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "trainer/run_objects.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

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
  at_least_one("overfit_batches", options.overfit_batches);
  check.require(options.sanity_eval_batches >= 0,
                concat("sanity_eval_batches must be >= 0, got ", options.sanity_eval_batches));
  const auto positive = [&](const char* name, std::optional<double> value) {
    check.require(!value || *value > 0, concat(name, " must be > 0, got ", value.value_or(1),
                                               "; leave it out to clip nothing"));
  };
  positive("clip_gradient_norm", options.clip_gradient_norm);
  positive("clip_gradient_value", options.clip_gradient_value);
}

void check_checkpoints(OptionCheck& check, const TrainOptions& options) {
  const auto& checkpoints = options.checkpoints;
  const auto newest = checkpoints.keep_newest.value_or(1);
  check.require(newest >= 1, concat("checkpoints.keep_newest must be >= 1, got ", newest,
                                    "; leave it out to keep all"));
  check.require(checkpoints.keep_best >= 0,
                concat("checkpoints.keep_best must be >= 0, got ", checkpoints.keep_best));
  check.require(!options.resume_from || !options.resume_from->empty(),
                "resume_from is an empty path; leave it out to begin anew");
}

void check_batch_sizes(OptionCheck& check, const TrainOptions& options) {
  check.require(
      options.rows == Rows::kShared || !options.global_batch_size,
      "global_batch_size needs rows that all ranks share; give per_device_batch_size with "
      "Rows::kPerRank");
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

void check_accumulation_schedule(OptionCheck& check, const TrainOptions& options) {
  for (const auto& [epoch, steps] : options.accumulation_schedule) {
    check.require(epoch >= 1 && steps >= 1,
                  concat("accumulation_schedule has ", steps, " micro-batches from epoch ", epoch,
                         "; both must be >= 1"));
  }
  if (options.accumulation_schedule.empty()) return;
  check.require(!options.global_batch_size && !options.deterministic_shards,
                "accumulation_schedule changes an update's rows, which global_batch_size and "
                "deterministic_shards fix; give per_device_batch_size");
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

bool is_power_of_two(std::int64_t value) { return value >= 1 && (value & (value - 1)) == 0; }

template <class Norm>
bool keeps_statistics(const torch::nn::Module& part) {
  const auto* norm = part.as<Norm>();
  return norm != nullptr && norm->options.track_running_stats();
}

// Layers whose outputs or statistics depend on how a batch is cut.
bool mixes_rows(const torch::nn::Module& part) {
  using namespace torch::nn;
  return part.as<BatchNorm1dImpl>() != nullptr || part.as<BatchNorm2dImpl>() != nullptr ||
         part.as<BatchNorm3dImpl>() != nullptr || part.as<SyncBatchNormImpl>() != nullptr ||
         keeps_statistics<InstanceNorm1dImpl>(part) || keeps_statistics<InstanceNorm2dImpl>(part) ||
         keeps_statistics<InstanceNorm3dImpl>(part);
}

void check_rows_stay_apart(OptionCheck& check, const TrainerState& state) {
  for (const auto& [module_name, model] : state.modules) {
    for (const auto& item : model.module().named_modules(module_name)) {
      const auto& part = *item.value();
      check.require(!mixes_rows(part),
                    concat("deterministic_shards: the module '", item.key(), "' is a ", part.name(),
                           ", whose statistics mix a batch's rows; use GroupNorm or "
                           "LayerNorm in its place"));
    }
  }
}

void check_shards(OptionCheck& check, const TrainOptions& options, bool has_rows,
                  const TrainerState& state) {
  if (!options.deterministic_shards) return;
  const auto shards = *options.deterministic_shards;
  const int ranks = state.accelerator->world_size();
  check.require(is_power_of_two(shards) && shards <= 1 << 16,
                concat("deterministic_shards must be a power of two up to 65536, got ", shards));
  check.require(is_power_of_two(ranks) && ranks <= shards,
                concat("deterministic_shards ", shards, " can't be shared out among ", ranks,
                       " ranks; start a power of two of them, at most as many as shards"));
  check.require(options.deterministic_threads >= 1,
                concat("deterministic_threads must be >= 1, got ", options.deterministic_threads));
  check.require(options.gradient_accumulation_steps == 1,
                concat("gradient_accumulation_steps is ", options.gradient_accumulation_steps,
                       "; with deterministic_shards it must be 1, as the shards are accumulated"));
  check.require(has_rows && options.rows == Rows::kShared,
                "deterministic_shards needs train() on a dataset that all ranks share, so that the "
                "library cuts its batches");
  check.require(state.accelerator->options().gradient_compression == GradientCompression::kNone,
                "deterministic_shards and gradient_compression exclude each other: what is rounded "
                "between ranks depends on their number; leave one of them out");
  check_rows_stay_apart(check, state);
}

// What has to be known to the host in each update can't be recorded.
void check_graphs(OptionCheck& check, const TrainOptions& options, bool has_rows,
                  const TrainerState& state) {
  if (!state.accelerator->options().capture_graph) return;
  for (const auto& slot : state.optimizers) {
    check.require(
        make_fused_step(*slot.optimizer) != nullptr,
        concat("capture_graph needs optimizers that step through fused kernels, and '", slot.name,
               "' is none; give exactly a torch::optim::SGD, Adam or AdamW, or set "
               "capture_graph to false"));
  }
  check.require(options.non_finite != NonFinite::kSkip,
                "capture_graph can't be had with NonFinite::kSkip, which looks at each update's "
                "loss before its means count; take kThrow or kStop");
  check.require(!options.deterministic_shards,
                "capture_graph and deterministic_shards exclude each other; leave one of them out");
  check.require(
      state.accelerator->world_size() == 1 || (has_rows && options.rows == Rows::kShared),
      "capture_graph needs train() on a dataset that all ranks share: where ranks bring their own "
      "rows, each update asks whether any has more");
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
  check.require(owns_loop || (!options.fast_dev_run && !options.overfit_batches &&
                              !options.limit_train_batches),
                "fast_dev_run, overfit_batches and limit_train_batches need train(); with start() "
                "the program says itself what it steps on");
  const int ranks = state.accelerator->world_size();
  const bool may_be_empty = options.rows == Rows::kPerRank && ranks > 1;
  check.require(rows.value_or(1) > 0 || may_be_empty,
                "the training dataset is empty; give one with at least one sample");
  check.require(options.sanity_eval_batches == 0 || options.eval_dataset,
                concat("sanity_eval_batches is ", options.sanity_eval_batches,
                       ", but there is no eval_dataset; give one"));
  check.require(!options.eval_dataset || options.eval_dataset.size() > 0,
                "eval_dataset is empty; give one with at least one sample, or leave it out");
  check_numbers(check, options);
  check_checkpoints(check, options);
  check_batch_sizes(check, options);
  check_accumulation_schedule(check, options);
  check_shards(check, options, owns_loop && rows.has_value(), state);
  check_graphs(check, options, owns_loop && rows.has_value(), state);
  check_loader(check, "train_loader", options.train_loader, rows,
               train_batch_rows(options, options.rows == Rows::kPerRank ? 1 : ranks));
  check_loader(check, "eval_loader", options.eval_loader,
               options.eval_dataset ? std::optional(options.eval_dataset.size()) : std::nullopt,
               eval_batch_rows(options, ranks));
  check_objects(check, state);
  check.throw_if_any();
}

}  // namespace torch_accelerated
