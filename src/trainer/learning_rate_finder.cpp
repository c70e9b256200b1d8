// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/learning_rate_finder.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/text.h"
#include "torch_accelerated/accelerator/seed_scope.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/line_chart.h"
#include "torch_accelerated/trainer/trainer.h"
#include "trainer/training_snapshot.h"

namespace torch_accelerated {
namespace {

void check(const LearningRateFinderOptions& options) {
  OptionCheck("find_learning_rate")
      .require(options.start_rate > 0, concat("start_rate must be > 0, got ", options.start_rate))
      .require(options.end_rate > options.start_rate && std::isfinite(options.end_rate),
               concat("end_rate must be above start_rate, ", options.start_rate, ", got ",
                      options.end_rate))
      .require(options.updates >= 2,
               concat("updates must be >= 2, got ", options.updates, "; 100 are usual"))
      .require(options.smoothing >= 0 && options.smoothing < 1,
               concat("smoothing must be in [0, 1), got ", options.smoothing))
      .require(options.divergence_factor > 1,
               concat("divergence_factor must be > 1, got ", options.divergence_factor))
      .throw_if_any();
}

// Follows a sweep and ends it; what it has seen goes into a result that outlives it.
class SweepRecorder : public Callback {
 public:
  SweepRecorder(const LearningRateFinderOptions& options, LearningRateFinderResult& result,
                bool& init_ended)
      : options_(&options), result_(&result), init_ended_(&init_ended) {}

  std::string name() const override { return "learning rate finder"; }
  bool concerns_all_ranks() const override { return true; }

  void on_init_end(Trainer&, const InitEnd&) override { *init_ended_ = true; }

  void on_train_step_end(Trainer& trainer, const TrainStepEnd& event) override {
    if (!event.update_ended || event.update_skipped || result_->diverged) return;
    const auto progress = trainer.progress();
    check_rate(progress.learning_rate);
    if (!std::isfinite(progress.loss)) return end(trainer);
    average_ = options_->smoothing * average_ + (1 - options_->smoothing) * progress.loss;
    weight_ = options_->smoothing * weight_ + (1 - options_->smoothing);
    const double smoothed = average_ / weight_;
    result_->rates.push_back(progress.learning_rate);
    result_->losses.push_back(progress.loss);
    result_->smoothed_losses.push_back(smoothed);
    best_ = result_->rates.size() == 1 ? smoothed : std::min(best_, smoothed);
    // For losses below zero as well: a distance from the best, measured by its size.
    if (smoothed - best_ > (options_->divergence_factor - 1) * std::abs(best_)) end(trainer);
  }

 private:
  void check_rate(double rate) const {
    const double expected = options_->start_rate;
    if (!result_->rates.empty() || std::abs(rate - expected) <= 1e-6 * expected) return;
    StateError error(concat("find_learning_rate: the first update was made at the learning rate ",
                            rate, " and not at start_rate, ", expected,
                            "; let create_scheduler return what the options' scheduler makes"));
    error.set_on_all_ranks();
    throw error;
  }

  void end(Trainer& trainer) const {
    result_->diverged = true;
    trainer.request_stop("the loss diverges");
  }

  const LearningRateFinderOptions* options_;
  LearningRateFinderResult* result_;
  bool* init_ended_;
  double average_ = 0;
  double weight_ = 0;
  double best_ = 0;
};

// A Trainer with other callbacks and another history, and whose host hears each loss with its
// update, until it is given back as it was.
class BorrowedTrainer {
 public:
  BorrowedTrainer(Trainer& trainer, CallbackList callbacks)
      : trainer_(trainer),
        snapshot_(trainer.model().module(), trainer.optimizer()),
        history_(trainer.use_history(std::make_unique<InMemoryHistory>())),
        callbacks_(std::exchange(trainer.callbacks(), std::move(callbacks))),
        verdicts_(trainer.accelerator().options().verdicts) {
    trainer.accelerator().set_verdicts(Verdicts::kAtOnce);
  }

  ~BorrowedTrainer() {
    trainer_.accelerator().set_verdicts(verdicts_);
    trainer_.callbacks() = std::move(callbacks_);
    trainer_.use_history(std::move(history_));
    snapshot_.give_back();
  }

  BorrowedTrainer(const BorrowedTrainer&) = delete;
  BorrowedTrainer& operator=(const BorrowedTrainer&) = delete;

 private:
  Trainer& trainer_;
  TrainingSnapshot snapshot_;
  std::unique_ptr<History> history_;
  CallbackList callbacks_;
  Verdicts verdicts_;
};

SchedulerFactory sweep_schedule(const LearningRateFinderOptions& options) {
  return [options](torch::optim::Optimizer& optimizer, const RunConfig&) {
    const double first = optimizer.param_groups().front().options().get_lr();
    return std::make_unique<CurveScheduler>(
        optimizer, "learning rate sweep",
        [options, first](std::int64_t update, double base_rate) {
          return sweep_rate(update, options) * (first > 0 ? base_rate / first : 1.0);
        },
        options.updates);
  };
}

TrainOptions sweep_options(const LearningRateFinderOptions& options) {
  auto train = options.train;
  train.num_epochs = options.updates;  // each has an update at least
  train.max_updates = options.updates;
  train.eval_dataset = {};
  train.scheduler = sweep_schedule(options);
  train.sanity_eval_batches = 0;
  train.fast_dev_run = false;
  train.reset_history = false;
  train.non_finite = NonFinite::kStop;
  train.checkpoints = {};
  train.resume_from.reset();
  return train;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Where the fall begins: at the last update before the lowest smoothed loss at which it was less
// than a fifth of the way down to it, from the median of the first half of the losses until there.
// At low rates only the batches' noise has slopes, and they can be the steepest ones.
std::size_t begin_of_fall(const LearningRateFinderResult& result, std::size_t first,
                          std::size_t lowest) {
  const auto half = static_cast<std::ptrdiff_t>((lowest + 1) / 2);
  const double level = median({result.losses.begin(), result.losses.begin() + half});
  const double bottom = result.smoothed_losses[lowest];
  if (level <= bottom) return first;
  auto begin = lowest;
  while (begin > first && level - result.smoothed_losses[begin] > 0.2 * (level - bottom)) --begin;
  return begin;
}

void suggest(LearningRateFinderResult& result) {
  const auto& rates = result.rates;
  const auto& losses = result.smoothed_losses;
  const auto count = losses.size();
  const auto first = count / 10;  // averages over too few losses to go by
  if (count - first < 3) return;
  const auto begin = losses.begin() + static_cast<std::ptrdiff_t>(first);
  const auto lowest =
      static_cast<std::size_t>(std::min_element(begin, losses.end()) - losses.begin());
  const double fall = losses[first] - losses[lowest];
  if (fall <= 1e-9 * std::abs(losses[first])) return;  // rounding
  result.tenth_of_minimum = rates[lowest] / 10;
  const auto place = [&](std::size_t i) {
    return result.sweep == RateSweep::kExponential ? std::log(rates[i]) : rates[i];
  };
  double steepest = 0;
  const auto search_from = std::max(first + 1, begin_of_fall(result, first, lowest));
  for (auto i = search_from; i < std::min(lowest + 1, count - 1); ++i) {
    const double slope = (losses[i + 1] - losses[i - 1]) / (place(i + 1) - place(i - 1));
    if (slope >= steepest) continue;
    steepest = slope;
    result.steepest_descent = rates[i];
  }
}

// What diverges would press all that is of interest into a line at the bottom.
double top_of_chart(const LearningRateFinderResult& result) {
  const auto& losses = result.smoothed_losses;
  if (losses.empty()) return 0;
  const auto lowest = std::min_element(losses.begin(), losses.end());
  const double high = *std::max_element(losses.begin(), lowest + 1);
  return high > *lowest ? *lowest + 1.5 * (high - *lowest)
                        : std::numeric_limits<double>::infinity();
}

// A chart leaves a gap where a number isn't finite.
std::vector<double> below(double top, std::vector<double> values) {
  for (auto& value : values) {
    if (value > top) value = std::numeric_limits<double>::quiet_NaN();
  }
  return values;
}

}  // namespace

double sweep_rate(std::int64_t update, const LearningRateFinderOptions& options) {
  const double t = static_cast<double>(update) / static_cast<double>(options.updates - 1);
  const double start = options.start_rate;
  if (options.sweep == RateSweep::kLinear) return start + (options.end_rate - start) * t;
  return start * std::pow(options.end_rate / start, t);
}

std::string LearningRateFinderResult::svg() const {
  ChartOptions options{.title = "Learning rate finder",
                       .x_label = "learning rate",
                       .y_label = "loss",
                       .log_x = sweep == RateSweep::kExponential};
  for (const auto& suggestion : {steepest_descent, tenth_of_minimum}) {
    if (suggestion) options.marked_x.push_back(*suggestion);
  }
  const double top = top_of_chart(*this);
  return line_chart_svg(
      {{"loss", rates, below(top, losses)}, {"smoothed", rates, below(top, smoothed_losses)}},
      options);
}

LearningRateFinderResult find_learning_rate(Trainer& trainer, const Dataset& dataset,
                                            const LearningRateFinderOptions& options) {
  auto& accelerator = trainer.accelerator();
  accelerator.together("find_learning_rate", [&] { check(options); });
  LearningRateFinderResult result{.sweep = options.sweep};
  bool init_ended = false;
  const SeedScope seeds(options.train.seed);
  std::optional<BorrowedTrainer> borrowed;
  accelerator.together("find_learning_rate", [&] {
    borrowed.emplace(trainer, CallbackList(SweepRecorder(options, result, init_ended)));
  });
  const auto give_back = [&] {
    borrowed.reset();
    // Fired once in a Trainer's life, which happened while its callbacks were away.
    if (init_ended) trainer.callbacks().notify(&Callback::on_init_end, trainer, InitEnd{});
  };
  try {
    // A loss that is not finite stops it without the recorder.
    result.diverged = trainer.train(dataset, sweep_options(options)).was_stopped();
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
  suggest(result);
  return result;
}

}  // namespace torch_accelerated
