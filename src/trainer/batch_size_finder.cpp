// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/batch_size_finder.h"

#include <torch/torch.h>

#include <algorithm>
#include <new>

#include "base/arithmetic.h"
#include "base/text.h"
#include "distributed/contract.h"
#include "torch_accelerated/accelerator/seed_scope.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/lone_trainer.h"
#include "trainer/trainer_state.h"

namespace torch_accelerated {
namespace {

constexpr const char* kFinder = "find_batch_size";

void check(const BatchSizeFinderOptions& options) {
  OptionCheck(kFinder)
      .require(options.initial >= 1, concat("initial must be >= 1, got ", options.initial))
      .require(options.maximum >= std::max<std::int64_t>(options.initial, 1),
               concat("maximum must be >= initial, ", options.initial, ", got ", options.maximum))
      .require(options.updates >= 1,
               concat("updates must be >= 1, got ", options.updates, "; 2 are usual"))
      .require(options.train.gradient_accumulation_steps >= 1,
               concat("train.gradient_accumulation_steps must be >= 1, got ",
                      options.train.gradient_accumulation_steps))
      .throw_if_any();
}

std::int64_t rows_in(const Dataset& dataset) { return dataset ? dataset.size() : 0; }

// All of what decides how often the ranks meet.
void check_ranks(Accelerator& accelerator, const Dataset& dataset,
                 const BatchSizeFinderOptions& options) {
  if (accelerator.world_size() == 1) return;
  const bool shared = options.train.rows == Rows::kShared;
  Contract contract(kFinder);
  contract.add("initial", concat(options.initial));
  contract.add("maximum", concat(options.maximum));
  contract.add("updates", concat(options.updates));
  contract.add("rows", shared ? "shared" : "per rank");
  if (shared) contract.add("dataset", concat(rows_in(dataset), " rows"));
  contract.check(accelerator.communicator());
}

// The most rows that a rank can get in a micro-batch of the run.
std::int64_t most_rows(Accelerator& accelerator, const Dataset& dataset,
                       const BatchSizeFinderOptions& options) {
  auto rows = rows_in(dataset);
  if (options.train.rows == Rows::kShared) {
    rows = ceil_divide(rows, accelerator.world_size());
  } else {
    rows = accelerator.gather(torch::full({1}, rows, torch::kInt64)).max().item<std::int64_t>();
  }
  accelerator.together(kFinder, [&] {
    OptionCheck(kFinder)
        .require(rows > 0, "the dataset is empty; give one with at least one sample")
        .throw_if_any();
  });
  return std::min(rows, options.maximum);
}

// LibTorch has no type of its own for some of them.
bool tells_of_memory(const std::string& text) {
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  return has("can't allocate memory") || has("CUDA error: out of memory") ||
         has("CUBLAS_STATUS_ALLOC_FAILED");
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    if (tells_of_memory(torch_error->what_without_backtrace())) return true;
  }
  if (const auto* known = dynamic_cast<const Error*>(&error)) {
    if (known->exit_code() == ExitCode::kOutOfMemory) return true;
  }
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& nested) {
    return is_out_of_memory(nested);
  } catch (...) {
    return false;
  }
  return false;
}

// The real one's options, in a world of one process.
AcceleratorOptions options_alone(const Accelerator& accelerator) {
  auto options = accelerator.options();
  options.device = accelerator.device().str();
  options.loss_scaling = {.initial_scale = 1};  // no update is skipped for an overflow
  options.capture_graph = false;                // whose memory would outlast a trial's errors
  return options;
}

// With several micro-batches, or ranks, gradients stay where they are during the next forward.
std::int64_t trial_window(const TrainOptions& train, int ranks) {
  return ranks > 1 ? 2 : std::min<std::int64_t>(train.gradient_accumulation_steps, 2);
}

TrainOptions trial_train_options(const BatchSizeFinderOptions& options, std::int64_t rows,
                                 std::int64_t window) {
  auto train = options.train;
  train.num_epochs = options.updates;  // each has an update at least
  train.max_updates = options.updates;
  train.per_device_batch_size = rows;
  train.global_batch_size.reset();
  train.gradient_accumulation_steps = window;
  train.accumulation_schedule.clear();
  train.train_loader.drop_last = true;  // each batch has all of its rows
  train.eval_dataset = {};
  train.sanity_eval_batches = 0;
  train.scheduler = {};
  train.limit_train_batches.reset();
  train.overfit_batches.reset();
  train.fast_dev_run = false;
  train.deterministic_shards.reset();
  train.non_finite = NonFinite::kSkip;
  train.checkpoints = {};
  train.resume_from.reset();
  return train;
}

// `dataset`, its rows repeated where it has fewer than `least`.
Dataset with_rows(const Dataset& dataset, std::int64_t least) {
  if (dataset.size() >= least) return dataset;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(least));
  for (std::size_t i = 0; i < indices.size(); ++i) {
    indices[i] = static_cast<std::int64_t>(i) % dataset.size();
  }
  return subset(dataset, std::move(indices));
}

// Tries batch sizes, and has all ranks agree on each.
class Trials {
 public:
  Trials(Trainer& trainer, TrainerState& state, const Dataset& dataset,
         const BatchSizeFinderOptions& options)
      : trainer_(trainer),
        state_(state),
        dataset_(dataset),
        options_(options),
        accelerator_(trainer.accelerator()),
        alone_(make_single_world(), options_alone(accelerator_)) {}

  /// Whether all ranks can train on `rows` rows. Collective.
  bool fits(std::int64_t rows) {
    accelerator_.together(kFinder, [&] { failure_ = failure_of(rows); });
    const bool fits = !accelerator_.any(!failure_.empty());
    trials_.push_back({rows, fits});
    return fits;
  }

  [[noreturn]] void throw_nothing_fits() const {
    UserCodeError error(
        concat(kFinder, ": not even one row fits",
               failure_.empty() ? " on another rank" : ": " + failure_,
               "; try MixedPrecision::kBf16, a smaller model or a device with more memory"),
        ExitCode::kOutOfMemory);
    error.set_on_all_ranks();
    throw error;
  }

  std::vector<BatchSizeTrial> take() { return std::move(trials_); }
  std::size_t count() const noexcept { return trials_.size(); }

 private:
  // What this rank ran out of memory with; empty where it didn't.
  std::string failure_of(std::int64_t rows) {
    try {
      train(std::min(rows, rows_in(dataset_)));
    } catch (const std::exception& error) {
      if (is_out_of_memory(error)) return concat("out of memory: ", error.what());
      pass_on(error);
    }
    return {};
  }

  // In the trial's world all ranks are this one: the others have to be told all the same.
  [[noreturn]] void pass_on(const std::exception& error) const {
    const auto* known = dynamic_cast<const Error*>(&error);
    if (known == nullptr || !known->is_on_all_ranks() || accelerator_.world_size() == 1) throw;
    std::throw_with_nested(UserCodeError(known->what(), known->exit_code()));
  }

  void train(std::int64_t rows) {
    if (rows == 0) return;  // other ranks have some
    const auto window = trial_window(options_.train, accelerator_.world_size());
    const LoneTrainer lone(state_, alone_);
    trainer_.train(with_rows(dataset_, product(rows, window)),
                   trial_train_options(options_, rows, window));
  }

  Trainer& trainer_;
  TrainerState& state_;
  const Dataset& dataset_;
  const BatchSizeFinderOptions& options_;
  Accelerator& accelerator_;  // of all ranks
  Accelerator alone_;
  std::string failure_;  // of the last trial, on this rank
  std::vector<BatchSizeTrial> trials_;
};

}  // namespace

BatchSizeFinderResult find_batch_size(Trainer& trainer, const Dataset& dataset,
                                      const BatchSizeFinderOptions& options) {
  auto& state = *trainer.state_;
  auto& accelerator = trainer.accelerator();
  accelerator.together(kFinder, [&] {
    state.require_idle(kFinder);
    check(options);
  });
  check_ranks(accelerator, dataset, options);
  const auto most = most_rows(accelerator, dataset, options);
  const SeedScope seeds(options.train.seed);
  std::optional<Trials> trials;
  accelerator.together(kFinder, [&] { trials.emplace(trainer, state, dataset, options); });
  auto rows = std::min(options.initial, most);
  while (!trials->fits(rows)) {
    if (rows == 1) trials->throw_nothing_fits();
    rows /= 2;
  }
  // Where it had to go back, twice as many rows have been tried.
  const bool may_grow = trials->count() == 1;
  while (may_grow && rows <= most / 2 && trials->fits(2 * rows)) rows *= 2;
  return {rows, trials->take()};
}

}  // namespace torch_accelerated
