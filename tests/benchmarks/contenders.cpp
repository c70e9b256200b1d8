// SPDX-License-Identifier: Apache-2.0
// The contenders: a loop as one writes it with LibTorch alone, and the Trainer.
#include <ATen/ops/_fused_sgd.h>
#include <c10/core/CPUAllocator.h>
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "workload.h"

namespace ta = torch_accelerated;

namespace benchmarks {
namespace {

constexpr std::int64_t kTransformerLayers = 4;

// LibTorch and PyTorch draw the weights of a new layer differently, so they are drawn again, but
// for those of norms, which would hide what is before them.
torch::nn::Sequential seeded_model(Model name) {
  auto model = make_model(name, kTransformerLayers);
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  for (auto& parameter : model->named_parameters()) {
    if (parameter.key().find("norm") == std::string::npos) parameter->uniform_(-0.05, 0.05);
  }
  return model;
}

torch::optim::SGDOptions sgd_options() { return torch::optim::SGDOptions(0.001).momentum(0.9); }

/// ATen's fused kernel as one calls it by hand.
class FusedSgd {
 public:
  FusedSgd(std::vector<torch::Tensor> parameters, const torch::optim::SGDOptions& options)
      : options_(options), parameters_(std::move(parameters)) {
    for (const auto& parameter : parameters_) momenta_.push_back(torch::empty_like(parameter));
  }

  void step() {
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> gradients;
    gradients.reserve(parameters_.size());
    for (const auto& parameter : parameters_) gradients.push_back(parameter.grad());
    at::_fused_sgd_(parameters_, gradients, momenta_, /*weight_decay=*/0, options_.momentum(),
                    options_.lr(), /*dampening=*/0, /*nesterov=*/false, /*maximize=*/false,
                    std::exchange(is_first_step_, false));
  }

  void zero_grad() {
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }

 private:
  torch::optim::SGDOptions options_;
  std::vector<torch::Tensor> parameters_;
  std::vector<torch::Tensor> momenta_;
  bool is_first_step_ = true;
};

/// What each contender begins with.
template <class Optimizer = torch::optim::SGD>
struct Network {
  explicit Network(const Work& work) : model(seeded_model(work.model)) { model->to(work.device); }

  torch::nn::Sequential model;
  torch::nn::CrossEntropyLoss loss_function;
  Optimizer optimizer{model->parameters(), sgd_options()};
};

/// An update, written by hand.
template <class Optimizer>
class HandWritten {
 public:
  explicit HandWritten(const Work& work)
      : network_(work), clock_(work), device_(work.device), is_bf16_(work.is_bf16()) {
    if (!device_.is_cpu()) sum_on_device_ = torch::zeros({}, device_);
  }

  void update(const torch::Tensor& data, const torch::Tensor& target) {
    clock_.tick();
    const auto loss = loss_of(data, target);
    loss.backward();
    network_.optimizer.step();
    network_.optimizer.zero_grad();
    if (device_.is_cpu()) {
      loss_sum_ += loss.template item<double>();
    } else {
      sum_on_device_ += loss.detach();  // nothing waits for it
    }
  }

  Outcome outcome(const Work& work) const {
    const double sum = device_.is_cpu() ? loss_sum_ : sum_on_device_.template item<double>();
    return {clock_, sum / static_cast<double>(work.total())};
  }

 private:
  torch::Tensor loss_of(const torch::Tensor& data, const torch::Tensor& target) {
    const ta::Autocast autocast(device_.type(),
                                is_bf16_ ? ta::MixedPrecision::kBf16 : ta::MixedPrecision::kNo);
    return network_.loss_function(network_.model->forward(data), target);
  }

  Network<Optimizer> network_;
  Clock clock_;
  c10::Device device_;
  bool is_bf16_;
  double loss_sum_ = 0;
  torch::Tensor sum_on_device_;
};

template <class Optimizer>
Outcome hand_written(const Work& work) {
  HandWritten<Optimizer> loop(work);
  if (work.data_path == DataPath::kPremade) {
    const auto data = work.data.split(work.batch_size());
    const auto target = work.target.split(work.batch_size());
    for (std::int64_t i = 0; i < work.total(); ++i) {
      const auto place = static_cast<std::size_t>(work.place(i));
      loop.update(data[place], target[place]);
    }
    return loop.outcome(work);
  }
  const auto order = torch::randperm(work.data.size(0), torch::kInt64);
  for (const auto& indices : order.split(work.batch_size())) {
    loop.update(work.data.index_select(0, indices), work.target.index_select(0, indices));
  }
  return loop.outcome(work);
}

/// LibTorch's own way to read tensors row by row.
class RowDataset : public torch::data::datasets::Dataset<RowDataset> {
 public:
  explicit RowDataset(const Work& work) : data_(work.data), target_(work.target) {}

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
  HandWritten<torch::optim::SGD> loop(work);
  const auto loader = torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
      RowDataset(work).map(torch::data::transforms::Stack<>()),
      torch::data::DataLoaderOptions().batch_size(work.batch_size()));
  for (const auto& batch : *loader) loop.update(batch.data, batch.target);
  return loop.outcome(work);
}

/// Reads the clock where steps begin; a step that is captured has no code of its own that runs.
class Ticks : public ta::Callback {
 public:
  explicit Ticks(Clock& clock) : clock_(clock) {}

  void on_train_step_start(ta::Trainer&, const ta::TrainStepStart&) override { clock_.tick(); }

 private:
  Clock& clock_;
};

class PremadeBatches : public ta::BatchSource {
 public:
  explicit PremadeBatches(const Work& work) {
    const auto data = work.data.split(work.batch_size());
    const auto target = work.target.split(work.batch_size());
    for (std::int64_t i = 0; i < work.total(); ++i) {
      const auto place = static_cast<std::size_t>(work.place(i));
      batches_.push_back({{"data", data[place]}, {"target", target[place]}});
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

/// How a Trainer is asked to run.
Outcome with_trainer(const Work& work, ta::AcceleratorOptions options) {
  Network<> network(work);
  Clock clock(work);
  options.device = work.device.str();
  if (work.is_bf16()) options.mixed_precision = ta::MixedPrecision::kBf16;
  ta::Accelerator accelerator(options);
  ta::Trainer trainer(network.model, network.loss_function, network.optimizer,
                      ta::default_callbacks(), &accelerator);
  trainer.callbacks().add(Ticks(clock));
  ta::RunResult result;
  if (work.data_path == DataPath::kPremade) {
    PremadeBatches source(work);
    result = trainer.train(source, {.num_epochs = 1});
  } else {
    const ta::Batch rows{{"data", work.data}, {"target", work.target}};
    result = trainer.train(rows, {.num_epochs = 1, .per_device_batch_size = work.batch_size()});
  }
  return {clock, result.metrics["train_loss"]};
}

/// What makes an update of the model faster and leaves it the same work.
ta::AcceleratorOptions fastest_options(const Work& work) {
  const bool has_images = work.model == Model::kConvolutional || work.model == Model::kResNet50;
  return {.channels_last = has_images,
          .capture_graph = work.model == Model::kMlp || work.device.is_cuda()};
}

ta::AcceleratorOptions bf16_options(const Work& work) {
  auto options = fastest_options(work);
  options.mixed_precision = ta::MixedPrecision::kBf16;
  return options;
}

}  // namespace

std::vector<double> Clock::updates() const {
  std::vector<double> spans;
  for (std::size_t i = warm_up_ + 1; i < ticks_.size(); ++i) {
    spans.push_back(std::chrono::duration<double, std::nano>(ticks_[i] - ticks_[i - 1]).count());
  }
  return spans;
}

Work make_work(Model model, std::int64_t warm_up, std::int64_t updates, c10::Device device) {
  Work work{model, warm_up, updates, DataPath::kPremade, device, {}, {}};
  torch::manual_seed(0);
  const auto batches = std::min(work.total(), most_batches_of(model));
  auto rows = draw_rows(model, batches * work.batch_size());
  work.data = rows.data.to(device);
  work.target = rows.target.to(device);
  return work;
}

Outcome run_contender(const std::string& name, const Work& work) {
  // A Trainer replaces LibTorch's allocator for its process, which loops by hand share with it.
  c10::SetCPUAllocator(c10::GetDefaultCPUAllocator());
  if (name == "hand-written") return hand_written<torch::optim::SGD>(work);
  if (name == "hand-written-fused") return hand_written<FusedSgd>(work);
  if (name == "torch::data" && work.data_path == DataPath::kDataset) return with_torch_data(work);
  if (name == "Trainer") return with_trainer(work, {});
  if (name == "Trainer-fastest") return with_trainer(work, fastest_options(work));
  if (name == "Trainer-bf16") return with_trainer(work, bf16_options(work));
  throw std::invalid_argument("there is no contender '" + name + "' for that data path");
}

}  // namespace benchmarks
