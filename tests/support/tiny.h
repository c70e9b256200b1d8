// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "torch_accelerated/torch_accelerated.h"

namespace tests {

namespace ta = torch_accelerated;

/// "data" (rows, 4) and "target" (rows, 3), drawn from `seed`.
inline ta::Batch tiny_batch(std::int64_t rows, std::uint64_t seed = 1,
                            torch::Dtype dtype = torch::kFloat32) {
  const ta::SeedScope scope(seed);
  return {{"data", torch::randn({rows, 4}, dtype)}, {"target", torch::randn({rows, 3}, dtype)}};
}

/// 4-5-3 with tanh, the same weights for the same seed.
inline torch::nn::Sequential tiny_net(std::uint64_t seed = 7,
                                      torch::Dtype dtype = torch::kFloat32) {
  const ta::SeedScope scope(seed);
  torch::nn::Sequential net(torch::nn::Linear(4, 5), torch::nn::Tanh(), torch::nn::Linear(5, 3));
  net->to(dtype);
  return net;
}

inline torch::optim::SGD sgd(const torch::nn::Sequential& net, double rate = 0.1,
                             double momentum = 0.9) {
  return torch::optim::SGD(net->parameters(), torch::optim::SGDOptions(rate).momentum(momentum));
}

/// Where optimizers step by themselves, as in a loop that is written by hand.
struct PlainAccelerator : ta::Accelerator {
  PlainAccelerator() : Accelerator({.device = "cpu", .fused_optimizers = false}) {}
};

inline bool equal_bits(const torch::nn::Module& a, const torch::nn::Module& b) {
  const auto left = a.parameters();
  const auto right = b.parameters();
  bool equal = left.size() == right.size();
  for (std::size_t i = 0; equal && i < left.size(); ++i) equal = torch::equal(left[i], right[i]);
  return equal;
}

/// The largest difference of two modules' parameters, relative to the largest number in them.
inline double relative_difference(const torch::nn::Module& a, const torch::nn::Module& b) {
  const torch::NoGradGuard no_grad;
  double difference = 0;
  double size = 0;
  const auto left = a.parameters();
  const auto right = b.parameters();
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference = std::max(difference, (left[i] - right[i]).abs().max().item<double>());
    size = std::max(size, left[i].abs().max().item<double>());
  }
  return difference / size;
}

/// Writes down each event's name, with what tells one from the other.
class RecordingCallback : public ta::Callback {
 public:
  explicit RecordingCallback(std::vector<std::string>& trace) : trace_(&trace) {}

  void on_init_end(ta::Trainer&, const ta::InitEnd& e) override { note(e); }
  void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart& e) override { note(e); }
  void on_train_epoch_start(ta::Trainer&, const ta::TrainEpochStart& e) override {
    note(e, std::to_string(e.epoch));
  }
  void on_train_step_start(ta::Trainer&, const ta::TrainStepStart& e) override {
    note(e, std::to_string(e.micro_batch));
  }
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& e) override {
    note(e, std::to_string(e.micro_batch) + (e.update_ended ? " update " : " of update ") +
                std::to_string(e.updates) + (e.update_skipped ? " skipped" : ""));
  }
  void on_train_epoch_end(ta::Trainer&, const ta::TrainEpochEnd& e) override {
    note(e, std::to_string(e.epoch));
  }
  void on_eval_epoch_start(ta::Trainer&, const ta::EvalEpochStart& e) override {
    note(e, std::to_string(e.epoch));
  }
  void on_eval_step_start(ta::Trainer&, const ta::EvalStepStart& e) override {
    note(e, std::to_string(e.batch_index));
  }
  void on_eval_step_end(ta::Trainer&, const ta::EvalStepEnd& e) override {
    note(e, std::to_string(e.batch_index));
  }
  void on_eval_epoch_end(ta::Trainer&, const ta::EvalEpochEnd& e) override {
    note(e, std::to_string(e.epoch));
  }
  void on_training_run_epoch_end(ta::Trainer&, const ta::TrainingRunEpochEnd& e) override {
    note(e, std::to_string(e.epoch));
  }
  void on_training_run_end(ta::Trainer&, const ta::TrainingRunEnd& e) override { note(e); }
  void on_evaluation_run_start(ta::Trainer&, const ta::EvaluationRunStart& e) override { note(e); }
  void on_evaluation_run_end(ta::Trainer&, const ta::EvaluationRunEnd& e) override { note(e); }
  void on_stop_training_error(ta::Trainer&, const ta::StopTrainingError& e) override {
    note(e, e.reason);
  }

 private:
  template <class Event>
  void note(const Event&, const std::string& detail = "") {
    trace_->push_back(Event::kName + (detail.empty() ? "" : " " + detail));
  }

  std::vector<std::string>* trace_;
};

/// Does one thing at the end of each micro-batch.
class AtStepEnd : public ta::Callback {
 public:
  using Action = std::function<void(ta::Trainer&, const ta::TrainStepEnd&)>;
  explicit AtStepEnd(Action action) : action_(std::move(action)) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
    action_(trainer, event);
  }

 private:
  Action action_;
};

/// Hands out batches that were made before, without saying how many.
class ListSource : public ta::BatchSource {
 public:
  explicit ListSource(std::vector<ta::Batch> batches, bool sized = false)
      : batches_(std::move(batches)), sized_(sized) {}

  std::optional<ta::Batch> next() override {
    if (next_ >= batches_.size()) return std::nullopt;
    return batches_[next_++];
  }
  std::optional<std::int64_t> size() const override {
    if (!sized_) return std::nullopt;
    return static_cast<std::int64_t>(batches_.size());
  }
  void start_epoch(std::int64_t) override { next_ = 0; }

 private:
  std::vector<ta::Batch> batches_;
  bool sized_;
  std::size_t next_ = 0;
};

/// What `body` throws, as its message; empty when it throws nothing of that type.
template <class ErrorType, class Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const ErrorType& error) {
    return error.what();
  }
  return {};
}

}  // namespace tests
