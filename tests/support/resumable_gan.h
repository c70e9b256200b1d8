// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/tiny.h"
#include "support/trace_text.h"

namespace tests {

/// What ResumableRun hasn't: running statistics, a companion with an optimizer of its own, and
/// rates that a metric drives. 6 epochs of 3 updates.
class ResumableGan {
 public:
  explicit ResumableGan(const std::filesystem::path& folder)
      : net_(make_net()),
        critic_(make_critic()),
        optimizer_(net_->parameters(), torch::optim::AdamOptions(kRate)),
        critic_optimizer_(critic_->parameters(), torch::optim::AdamOptions(2 * kRate)),
        trainer_(net_, critic_, optimizer_, critic_optimizer_),
        rates_(&trainer_.callbacks().add(Rates(optimizer_, critic_optimizer_))) {
    // Few epochs are an improvement, so that the rates go down now and then.
    options_ = {
        .num_epochs = 6,
        .eval_dataset = tiny_batch(8, 4),
        .per_device_batch_size = 4,
        .scheduler = ta::reduce_on_plateau({.factor = 0.5, .patience = 1, .threshold = 0.9}),
        .seed = 5,
        .checkpoints = {.directory = folder / "checkpoints"}};
  }

  void stop_after(std::int64_t update) { rates_->stop_after = update; }

  ta::RunResult train(std::optional<std::filesystem::path> resume_from = {}) {
    options_.resume_from = std::move(resume_from);
    return trainer_.train(tiny_batch(12, 3), options_);
  }

  /// Of both optimizers, after each update.
  const std::vector<double>& rates() const { return rates_->rates; }

  /// Everything that a run leaves, but for times, as text.
  std::string trace() {
    TraceText trace;
    trace.add(*net_);
    trace.add(*critic_);
    add_moments(trace, *net_, optimizer_);
    add_moments(trace, *critic_, critic_optimizer_);
    trace.add("rates", rates_->state());
    trace.add(trainer_.history());
    return trace.text();
  }

  static constexpr double kRate = 0.01;

 private:
  /// Notes the rates, and saves and stops where it is told to.
  class Rates : public ta::Callback {
   public:
    Rates(torch::optim::Optimizer& one, torch::optim::Optimizer& other)
        : optimizers_{&one, &other} {}
    std::string name() const override { return "Rates"; }
    bool concerns_all_ranks() const override { return true; }
    void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
      for (auto* optimizer : optimizers_) {
        rates.push_back(optimizer->param_groups().front().options().get_lr());
      }
      if (event.updates != stop_after) return;
      trainer.save_checkpoint();
      trainer.request_stop("the test wants it");
    }
    ta::State state() const override { return ta::State().set("rates", rates); }
    void load_state(const ta::State& state) override {
      rates = state.get<std::vector<double>>("rates");
    }
    std::vector<double> rates;
    std::int64_t stop_after = -1;

   private:
    std::vector<torch::optim::Optimizer*> optimizers_;
  };

  /// Trains the net on its targets, and on what a critic thinks of it.
  class Adversarial : public ta::Trainer {
   public:
    Adversarial(torch::nn::Sequential net, torch::nn::Sequential critic,
                torch::optim::Optimizer& optimizer, torch::optim::Optimizer& critic_optimizer)
        : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()),
          net_(net),
          critic_(critic),
          critic_optimizer_(&critic_optimizer) {
      register_module("critic", critic);
      add_optimizer("critic", critic_optimizer);
    }

   protected:
    ta::StepOutput train_step(const ta::Batch& batch) override {
      const auto made = net_->forward(batch["data"]);
      optimize(opinion(batch["target"], 1) + opinion(made.detach(), 0), *critic_optimizer_);
      const auto loss = torch::mse_loss(made, batch["target"]) + opinion(made, 1);
      optimize(loss, optimizer());
      return {loss, {{"output", made}}, {}};
    }

   private:
    torch::Tensor opinion(const torch::Tensor& of, double label) {
      const auto logits = critic_->forward(of);
      return torch::binary_cross_entropy_with_logits(logits, torch::full_like(logits, label));
    }

    torch::nn::Sequential net_;
    torch::nn::Sequential critic_;
    torch::optim::Optimizer* critic_optimizer_;
  };

  static torch::nn::Sequential make_net() {
    const ta::SeedScope scope(7);
    return torch::nn::Sequential(torch::nn::Linear(4, 6), torch::nn::BatchNorm1d(6),
                                 torch::nn::Tanh(), torch::nn::Linear(6, 3));
  }
  static torch::nn::Sequential make_critic() {
    const ta::SeedScope scope(8);
    return torch::nn::Sequential(torch::nn::Linear(3, 5), torch::nn::Tanh(),
                                 torch::nn::Linear(5, 1));
  }

  static void add_moments(TraceText& trace, const torch::nn::Module& module,
                          torch::optim::Adam& optimizer) {
    for (const auto& item : module.named_parameters()) {
      const auto kept = optimizer.state().find(item.value().unsafeGetTensorImpl());
      if (kept == optimizer.state().end()) continue;
      const auto& moments = static_cast<torch::optim::AdamParamState&>(*kept->second);
      trace.add(item.key() + " step", static_cast<double>(moments.step()));
      trace.add(item.key() + " exp_avg", moments.exp_avg());
      trace.add(item.key() + " exp_avg_sq", moments.exp_avg_sq());
    }
  }

  torch::nn::Sequential net_;
  torch::nn::Sequential critic_;
  torch::optim::Adam optimizer_;
  torch::optim::Adam critic_optimizer_;
  Adversarial trainer_;
  Rates* rates_;
  ta::TrainOptions options_;
};

}  // namespace tests
