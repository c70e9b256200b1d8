// SPDX-License-Identifier: Apache-2.0
// The contenders: a loop as one writes it with LibTorch alone, and the Trainer.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <stdexcept>

#include "support/mnist_mlp.h"
#include "workload.h"

namespace ta = torch_accelerated;

namespace benchmarks {
namespace {

// LibTorch and PyTorch draw the weights of a new layer differently, so they are drawn again.
torch::nn::Sequential seeded_model() {
  auto model = examples::make_mnist_mlp();
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  for (auto& parameter : model->parameters()) parameter.uniform_(-0.05, 0.05);
  return model;
}

/// What each contender begins with.
struct Network {
  torch::nn::Sequential model = seeded_model();
  torch::nn::CrossEntropyLoss loss_function;
  torch::optim::SGD optimizer{model->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9)};
};

/// An update, written by hand.
class HandWritten {
 public:
  explicit HandWritten(const Work& work) : clock_(work) {}

  void update(const torch::Tensor& data, const torch::Tensor& target) {
    clock_.tick();
    const auto loss = network_.loss_function(network_.model->forward(data), target);
    loss.backward();
    network_.optimizer.step();
    network_.optimizer.zero_grad();
    loss_sum_ += loss.item<double>();
  }

  Outcome outcome(const Work& work) const {
    return {clock_, loss_sum_ / static_cast<double>(work.total())};
  }

 private:
  Network network_;
  Clock clock_;
  double loss_sum_ = 0;
};

Outcome hand_written(const Work& work) {
  HandWritten loop(work);
  if (work.data_path == DataPath::kPremade) {
    const auto data = work.data.split(kBatchSize);
    const auto target = work.target.split(kBatchSize);
    for (std::size_t i = 0; i < data.size(); ++i) loop.update(data[i], target[i]);
    return loop.outcome(work);
  }
  const auto order = torch::randperm(work.data.size(0), torch::kInt64);
  for (const auto& indices : order.split(kBatchSize)) {
    loop.update(work.data.index_select(0, indices), work.target.index_select(0, indices));
  }
  return loop.outcome(work);
}

/// LibTorch's own way to read tensors row by row.
class Rows : public torch::data::datasets::Dataset<Rows> {
 public:
  explicit Rows(const Work& work) : data_(work.data), target_(work.target) {}

  torch::data::Example<> get(std::size_t index) override {
    const auto row = static_cast<std::int64_t>(index);
    return {data_[row], target_[row]};
  }

  std::optional<std::size_t> size() const override {
    return static_cast<std::size_t>(data_.size(0));
  }

 private:
  torch::Tensor data_;
  torch::Tensor target_;
};

Outcome with_torch_data(const Work& work) {
  HandWritten loop(work);
  const auto loader = torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
      Rows(work).map(torch::data::transforms::Stack<>()),
      torch::data::DataLoaderOptions().batch_size(kBatchSize));
  for (const auto& batch : *loader) loop.update(batch.data, batch.target);
  return loop.outcome(work);
}

class ClockedTrainer : public ta::Trainer {
 public:
  ClockedTrainer(Network& network, Clock& clock)
      : Trainer(network.model, network.loss_function, network.optimizer), clock_(clock) {}

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    clock_.tick();
    return Trainer::calculate_train_batch_loss(batch);
  }

 private:
  Clock& clock_;
};

class PremadeBatches : public ta::BatchSource {
 public:
  explicit PremadeBatches(const Work& work) {
    const auto data = work.data.split(kBatchSize);
    const auto target = work.target.split(kBatchSize);
    for (std::size_t i = 0; i < data.size(); ++i) {
      batches_.push_back({{"data", data[i]}, {"target", target[i]}});
    }
  }

  std::optional<ta::Batch> next() override {
    if (next_ == batches_.size()) return std::nullopt;
    return batches_[next_++];
  }

  std::optional<std::int64_t> size() const override {
    return static_cast<std::int64_t>(batches_.size());
  }

  void start_epoch(std::int64_t) override { next_ = 0; }

 private:
  std::vector<ta::Batch> batches_;
  std::size_t next_ = 0;
};

Outcome with_trainer(const Work& work) {
  Network network;
  Clock clock(work);
  ClockedTrainer trainer(network, clock);
  ta::RunResult result;
  if (work.data_path == DataPath::kPremade) {
    PremadeBatches source(work);
    result = trainer.train(source, {.num_epochs = 1});
  } else {
    const ta::Batch rows{{"data", work.data}, {"target", work.target}};
    result = trainer.train(rows, {.num_epochs = 1, .per_device_batch_size = kBatchSize});
  }
  return {clock, result.metrics["train_loss"]};
}

}  // namespace

std::vector<double> Clock::updates() const {
  std::vector<double> spans;
  for (std::size_t i = warm_up_ + 1; i < ticks_.size(); ++i) {
    spans.push_back(std::chrono::duration<double, std::nano>(ticks_[i] - ticks_[i - 1]).count());
  }
  return spans;
}

Work make_work(std::int64_t warm_up, std::int64_t updates, DataPath data_path) {
  Work work{warm_up, updates, data_path, {}, {}};
  const std::int64_t rows = work.total() * kBatchSize;
  torch::manual_seed(0);
  work.data = torch::rand({rows, 28 * 28});
  work.target = torch::randint(10, {rows}, torch::kInt64);
  return work;
}

Outcome run_contender(const std::string& name, const Work& work) {
  if (name == "hand-written") return hand_written(work);
  if (name == "torch::data" && work.data_path == DataPath::kDataset) return with_torch_data(work);
  if (name == "Trainer") return with_trainer(work);
  throw std::invalid_argument("there is no contender '" + name + "' for that data path");
}

}  // namespace benchmarks
