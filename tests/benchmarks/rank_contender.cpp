// SPDX-License-Identifier: Apache-2.0
// A Trainer's run on however many ranks it is started with, for compare_ranks.py:
//   [mpirun -n 2] benchmark_ranks mlp|convolutional|transformer UPDATES
// Prints the mean time of an update in µs, from one update's end to the next, the first ones left
// out.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace ta = torch_accelerated;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRowsOfRank = 32;
constexpr std::int64_t kWarmUp = 20;
constexpr std::int64_t kBatches = 50;  // that are drawn; a longer run goes on from the first

/// A model and rows for it, the same in rank_contender.py.
struct Workload {
  ta::Model model;
  std::vector<torch::Tensor> parameters;
  ta::Batch rows;
  ta::LossFunction loss = torch::nn::CrossEntropyLoss();
};

Workload mlp(std::int64_t rows) {
  torch::nn::Sequential net(torch::nn::Linear(784, 128), torch::nn::ReLU(),
                            torch::nn::Linear(128, 64), torch::nn::ReLU(),
                            torch::nn::Linear(64, 10));
  return {
      net,
      net->parameters(),
      {{"data", torch::rand({rows, 784})}, {"target", torch::randint(10, {rows}, torch::kInt64)}}};
}

Workload convolutional(std::int64_t rows) {
  using torch::nn::Conv2d;
  using torch::nn::Conv2dOptions;
  torch::nn::Sequential net(Conv2d(Conv2dOptions(3, 32, 3).padding(1)), torch::nn::ReLU(),
                            Conv2d(Conv2dOptions(32, 64, 3).padding(1)), torch::nn::ReLU(),
                            torch::nn::MaxPool2d(2), Conv2d(Conv2dOptions(64, 64, 3).padding(1)),
                            torch::nn::ReLU(), torch::nn::MaxPool2d(2), torch::nn::Flatten(),
                            torch::nn::Linear(4096, 128), torch::nn::ReLU(),
                            torch::nn::Linear(128, 10));
  return {net,
          net->parameters(),
          {{"data", torch::rand({rows, 3, 32, 32})},
           {"target", torch::randint(10, {rows}, torch::kInt64)}}};
}

struct LanguageModelImpl : torch::nn::Module {
  torch::nn::Embedding embedding{nullptr};
  torch::nn::TransformerEncoder encoder{nullptr};
  torch::nn::Linear head{nullptr};

  LanguageModelImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(1000, 128));
    encoder = register_module(
        "encoder",
        torch::nn::TransformerEncoder(
            torch::nn::TransformerEncoderLayer(
                torch::nn::TransformerEncoderLayerOptions(128, 4).dim_feedforward(512).dropout(0)),
            2));
    head = register_module("head", torch::nn::Linear(128, 1000));
  }

  torch::Tensor forward(const torch::Tensor& tokens) {  // (rows, length) -> (rows, 1000, length)
    const auto hidden = encoder->forward(embedding->forward(tokens.t()));
    return head->forward(hidden).permute({1, 2, 0});
  }
};
TORCH_MODULE(LanguageModel);

Workload transformer(std::int64_t rows) {
  LanguageModel net;
  return {net,
          net->parameters(),
          {{"data", torch::randint(1000, {rows, 64}, torch::kInt64)},
           {"target", torch::randint(1000, {rows, 64}, torch::kInt64)}}};
}

Workload make(const std::string& name, std::int64_t rows) {
  torch::manual_seed(0);
  if (name == "mlp") return mlp(rows);
  if (name == "convolutional") return convolutional(rows);
  if (name == "transformer") return transformer(rows);
  throw std::invalid_argument("there is no workload " + name);
}

class UpdateClock : public ta::Callback {
 public:
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& event) override {
    if (event.updates == kWarmUp) begin_ = Clock::now();
    end_ = Clock::now();
  }
  double microseconds(std::int64_t updates) const {
    const std::chrono::duration<double, std::micro> span = end_ - begin_;
    return span.count() / static_cast<double>(updates);
  }

 private:
  Clock::time_point begin_;
  Clock::time_point end_;
};

void measure(const std::string& name, std::int64_t updates) {
  ta::Accelerator accelerator({.device = "cpu"});
  auto work = make(name, kBatches * kRowsOfRank * accelerator.world_size());
  torch::optim::SGD optimizer(work.parameters, torch::optim::SGDOptions(0.001).momentum(0.9));
  ta::Trainer trainer(work.model, work.loss, optimizer, ta::CallbackList(), &accelerator);
  auto& clock = trainer.callbacks().add(UpdateClock());
  trainer.train(work.rows, {.num_epochs = updates,
                            .per_device_batch_size = kRowsOfRank,
                            .max_updates = kWarmUp + updates});
  char line[32];
  std::snprintf(line, sizeof line, "%.3f", clock.microseconds(updates));
  accelerator.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    if (argc != 3) throw std::invalid_argument("benchmark_ranks WORKLOAD UPDATES");
    at::set_num_threads(1);
    measure(argv[1], std::stoll(argv[2]));
  });
}
