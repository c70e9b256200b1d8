// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <regex>
#include <sstream>
#include <string>

#include "support/tiny.h"
#include "support/trace_text.h"
#include "torch_accelerated/torch_accelerated.h"

namespace tests {

/// A run with everything that keeps a state: dropout, Adam, a schedule, averages, early stopping,
/// a log file, accumulation, sums of an epoch, and a callback of a program's own.
class ResumableRun {
 public:
  /// Counts events, and draws a random number in each step.
  class Counting : public ta::Callback {
   public:
    std::string name() const override { return "Counting"; }
    bool concerns_all_ranks() const override { return true; }
    void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart&) override { ++runs_; }
    void on_train_epoch_start(ta::Trainer&, const ta::TrainEpochStart&) override { ++epochs_; }
    void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
      if (!event.update_ended) return;
      ++steps_;
      rates_.push_back(trainer.progress().learning_rate);
      if (stop_after_ == event.updates) {
        trainer.save_checkpoint();
        trainer.request_stop("the test wants it");
      }
    }
    ta::State state() const override {
      return ta::State()
          .set("runs", runs_)
          .set("epochs", epochs_)
          .set("steps", steps_)
          .set("rates", rates_);
    }
    void load_state(const ta::State& state) override {
      runs_ = state.get<std::int64_t>("runs");
      epochs_ = state.get<std::int64_t>("epochs");
      steps_ = state.get<std::int64_t>("steps");
      rates_ = state.get<std::vector<double>>("rates");
    }
    void stop_after(std::int64_t update) { stop_after_ = update; }

   private:
    std::int64_t runs_ = 0;
    std::int64_t epochs_ = 0;
    std::int64_t steps_ = 0;
    std::vector<double> rates_;
    std::int64_t stop_after_ = -1;
  };

  explicit ResumableRun(const std::filesystem::path& folder, ta::Accelerator* accelerator = nullptr,
                        double dropout = 0.3)
      : folder_(folder),
        net_(make_net(dropout)),
        optimizer_(net_->parameters(), torch::optim::AdamOptions(0.01)),
        trainer_(net_, torch::nn::MSELoss(), optimizer_, ta::CallbackList(), accelerator),
        data_(tiny_batch(37, 3, torch::kFloat64)),
        eval_(tiny_batch(9, 4, torch::kFloat64)) {
    auto& callbacks = trainer_.callbacks();
    callbacks.add(ta::ModelEma({.decay = 0.9, .keep_best = "ema_eval_loss"}));
    callbacks.add(ta::EarlyStopping({.metric = "eval_loss", .patience = 50}));
    callbacks.add(ta::SaveBestModel({.metric = "eval_loss", .reload_at_end = false}));
    callbacks.add(ta::StepBasedEvaluation({.every_updates = 4}));
    callbacks.add(ta::JsonLinesLogger(folder / "history.jsonl"));
    callbacks.add(ta::CsvLogger(folder / "history.csv"));
    counting_ = &callbacks.add(Counting());
    trainer_.add_metric(
        "mse",
        [](const ta::TensorDict& outputs, const ta::Batch& batch) {
          return ta::Mean(torch::mse_loss(outputs.only(), batch["target"]));
        },
        ta::MetricPhases::kTrainingAndEvaluation);
    options_ = {.num_epochs = 3,
                .eval_dataset = eval_,
                .global_batch_size = 8,
                .gradient_accumulation_steps = 2,
                .clip_gradient_norm = 1,
                .scheduler = ta::cosine({.warmup_updates = 4}),
                .seed = 5,
                .checkpoints = {.directory = folder / "checkpoints"}};
  }

  void stop_after(std::int64_t update) { counting_->stop_after(update); }
  void save_at_end() { trainer_.callbacks().add(ta::SaveCheckpoints()); }
  void keep_all_epochs() {
    trainer_.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1, .at_end = false}));
    options_.checkpoints.keep_newest.reset();
  }

  ta::TrainOptions& options() { return options_; }
  ta::Dataset& data() { return data_; }
  ta::Trainer& trainer() { return trainer_; }
  const torch::nn::Sequential& net() const { return net_; }

  ta::RunResult train(std::optional<std::filesystem::path> resume_from = {}) {
    torch::manual_seed(11);
    options_.resume_from = std::move(resume_from);
    auto result = trainer_.train(data_, options_);
    next_random_ = torch::rand({1}).item<double>();
    return result;
  }

  /// Everything that a run leaves, but for times, as text.
  std::string trace() const {
    TraceText trace;
    trace.add(*net_);
    for (const auto& callback : trainer_callbacks()) trace.add(callback->name(), callback->state());
    trace.add(trainer_.history());
    trace.add("random", next_random_);
    return trace.text() + without_times("history.jsonl");
  }

 private:
  static torch::nn::Sequential make_net(double dropout) {
    const ta::SeedScope scope(7);
    torch::nn::Sequential net(torch::nn::Linear(4, 6), torch::nn::Dropout(dropout),
                              torch::nn::Tanh(), torch::nn::Linear(6, 3));
    net->to(torch::kFloat64);
    return net;
  }

  const ta::CallbackList& trainer_callbacks() const {
    return const_cast<ta::Trainer&>(trainer_).callbacks();  // which gives no const list
  }

  std::string without_times(const char* name) const {
    std::ifstream file(folder_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return std::regex_replace(
        text.str(), std::regex("\"(seconds|eta_seconds|rows_per_second)\":[-+.0-9e]+"), "");
  }

  std::filesystem::path folder_;
  torch::nn::Sequential net_;
  torch::optim::Adam optimizer_;
  ta::Trainer trainer_;
  ta::Dataset data_;
  ta::Dataset eval_;
  ta::TrainOptions options_;
  Counting* counting_ = nullptr;
  double next_random_ = 0;  // what the generator gives after the run
};

}  // namespace tests
