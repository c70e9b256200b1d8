// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "support/tiny.h"

namespace tests {

/// Calls `entered` with the name of each overridable step, before the step does what it does.
class EveryStep : public ta::Trainer {
 public:
  EveryStep(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
            std::function<void(const char* step)> entered)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()),
        entered_(std::move(entered)) {}

 protected:
  ta::RunConfig create_run_config(const ta::TrainOptions& options,
                                  const ta::BatchSource* source) override {
    entered_("create_run_config");
    return Trainer::create_run_config(options, source);
  }
  std::unique_ptr<ta::BatchSource> create_train_dataloader(
      ta::Dataset dataset, const ta::DataLoaderOptions& options) override {
    entered_("create_train_dataloader");
    return Trainer::create_train_dataloader(dataset, options);
  }
  std::unique_ptr<ta::BatchSource> create_eval_dataloader(
      ta::Dataset dataset, const ta::DataLoaderOptions& options) override {
    entered_("create_eval_dataloader");
    return Trainer::create_eval_dataloader(dataset, options);
  }
  ta::DataLoaderOptions default_train_loader_options(
      const ta::TrainOptions& options) const override {
    entered_("default_train_loader_options");
    return Trainer::default_train_loader_options(options);
  }
  ta::DataLoaderOptions default_eval_loader_options(const ta::LoaderOptions& options,
                                                    std::int64_t batch_size) const override {
    entered_("default_eval_loader_options");
    return Trainer::default_eval_loader_options(options, batch_size);
  }
  std::unique_ptr<ta::Scheduler> create_scheduler(torch::optim::Optimizer& optimizer,
                                                  const ta::TrainOptions& options,
                                                  const ta::RunConfig& config) override {
    entered_("create_scheduler");
    return Trainer::create_scheduler(optimizer, options, config);
  }
  void training_run_start() override {
    entered_("training_run_start");
    Trainer::training_run_start();
  }
  void train_epoch_start() override { entered_("train_epoch_start"); }
  ta::StepOutput train_step(const ta::Batch& batch) override {
    entered_("train_step");
    return Trainer::train_step(batch);
  }
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    entered_("calculate_train_batch_loss");
    return Trainer::calculate_train_batch_loss(batch);
  }
  void backward_step(const ta::Mean& loss, torch::optim::Optimizer& optimizer) override {
    entered_("backward_step");
    Trainer::backward_step(loss, optimizer);
  }
  torch::Tensor clip_gradients(torch::optim::Optimizer& optimizer) override {
    entered_("clip_gradients");
    return Trainer::clip_gradients(optimizer);
  }
  void optimizer_step(torch::optim::Optimizer& optimizer) override {
    entered_("optimizer_step");
    Trainer::optimizer_step(optimizer);
  }
  void scheduler_step(torch::optim::Optimizer& optimizer) override {
    entered_("scheduler_step");
    Trainer::scheduler_step(optimizer);
  }
  void optimizer_zero_grad(torch::optim::Optimizer& optimizer) override {
    entered_("optimizer_zero_grad");
    Trainer::optimizer_zero_grad(optimizer);
  }
  void train_epoch_end() override { entered_("train_epoch_end"); }
  void training_run_epoch_end() override { entered_("training_run_epoch_end"); }
  void training_run_end() override { entered_("training_run_end"); }
  void evaluation_run_start() override { entered_("evaluation_run_start"); }
  void eval_epoch_start() override { entered_("eval_epoch_start"); }
  ta::StepOutput calculate_eval_batch_loss(const ta::Batch& batch) override {
    entered_("calculate_eval_batch_loss");
    return Trainer::calculate_eval_batch_loss(batch);
  }
  void eval_epoch_end() override { entered_("eval_epoch_end"); }
  void evaluation_run_end() override { entered_("evaluation_run_end"); }

 private:
  std::function<void(const char* step)> entered_;
};

}  // namespace tests
