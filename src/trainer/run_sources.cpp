// SPDX-License-Identifier: Apache-2.0
// Where a run's batches come from.
#include <torch/torch.h>

#include <algorithm>

#include "base/arithmetic.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "trainer/run_objects.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

constexpr std::int64_t kDefaultBatchSize = 8;

// @param batch_size  rows, of all ranks together.
DataLoaderOptions loader_options(const LoaderOptions& asked, bool shuffle,
                                 std::int64_t batch_size) {
  return {.batch_size = batch_size,
          .shuffle = asked.shuffle.value_or(shuffle),
          .drop_last = asked.drop_last,
          .num_workers = asked.num_workers,
          .prefetch_batches = asked.prefetch_batches};
}

// Given by a rank that has no rows of its own.
class NoBatches : public BatchSource {
 public:
  std::optional<Batch> next() override { return std::nullopt; }
  std::optional<std::int64_t> size() const override { return 0; }
  bool set_position(std::int64_t /*epoch*/, std::int64_t /*batches*/) override { return true; }
  std::optional<std::int64_t> rows_of(std::int64_t /*first*/,
                                      std::int64_t /*count*/) const override {
    return 0;
  }
};

}  // namespace

bool is_cut_among_ranks(const BatchSource* source, int ranks) {
  const auto* loader = dynamic_cast<const DataLoader*>(source);
  return loader != nullptr && loader->options().is_shared && loader->options().world_size == ranks;
}

std::int64_t train_batch_rows(const TrainOptions& options, int ranks) {
  if (options.global_batch_size && options.gradient_accumulation_steps >= 1) {
    return *options.global_batch_size / options.gradient_accumulation_steps;
  }
  const auto each = options.per_device_batch_size.value_or(kDefaultBatchSize);
  return each < 1 ? each : product(each, ranks);
}

std::int64_t eval_batch_rows(const TrainOptions& options, int ranks) {
  const auto parts = options.deterministic_shards.value_or(ranks);
  const auto training =
      ceil_divide(train_batch_rows(options, ranks), std::max<std::int64_t>(parts, 1));
  return options.eval_per_device_batch_size.value_or(training);
}

std::unique_ptr<BatchSource> Trainer::train_source(const Dataset& dataset,
                                                   const TrainOptions& options) {
  if (!dataset || dataset.size() == 0) return std::make_unique<NoBatches>();
  auto source = create_train_dataloader(dataset, default_train_loader_options(options));
  if (source && options.deterministic_shards &&
      !is_cut_among_ranks(source.get(), accelerator().world_size())) {
    throw ArgumentError(
        "deterministic_shards: create_train_dataloader returned a source of its own, which cuts no "
        "shards; return what accelerator().prepare makes with the options that it was given");
  }
  if (source) return source;
  throw StateError(
      "create_train_dataloader returned null; return a loader, such as the Trainer's own");
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
  const bool shared = options.rows == Rows::kShared;
  const int ranks = shared ? accelerator().world_size() : 1;
  auto loader =
      loader_options(options.train_loader, /*shuffle=*/true, train_batch_rows(options, ranks));
  loader.seed = options.seed;
  loader.is_shared = shared;
  loader.window = options.gradient_accumulation_steps;
  if (options.overfit_batches) loader.shuffle = false;
  loader.shards = options.deterministic_shards.value_or(0);
  loader.borrow_row = ranks > 1 && state_->has_sync_batch_norm();
  // The loader knows of limits, so that the rows of an update that they cut short are whole.
  if (options.limit_train_batches && shared) {
    loader.limit_batches =
        product(*options.limit_train_batches, loader.shards > 0 ? loader.shards / ranks : 1);
  }
  return loader;
}

DataLoaderOptions Trainer::default_eval_loader_options(const LoaderOptions& options,
                                                       std::int64_t batch_size) const {
  return loader_options(options, /*shuffle=*/false,
                        product(batch_size, accelerator().world_size()));
}

}  // namespace torch_accelerated
