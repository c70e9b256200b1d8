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

#include "models.h"

namespace ta = torch_accelerated;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRowsOfRank = 32;
constexpr std::int64_t kWarmUp = 20;
constexpr std::int64_t kBatches = 50;  // that are drawn; a longer run goes on from the first
constexpr std::int64_t kTransformerLayers = 2;

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
  const auto model = benchmarks::model_named(name);
  torch::manual_seed(0);
  auto net = benchmarks::make_model(model, kTransformerLayers);
  const auto drawn =
      benchmarks::draw_rows(model, kBatches * kRowsOfRank * accelerator.world_size());
  const ta::Batch rows{{"data", drawn.data}, {"target", drawn.target}};
  torch::optim::SGD optimizer(net->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9));
  ta::Trainer trainer(net, torch::nn::CrossEntropyLoss(), optimizer, ta::CallbackList(),
                      &accelerator);
  auto& clock = trainer.callbacks().add(UpdateClock());
  trainer.train(rows, {.num_epochs = updates,
                       .per_device_batch_size = kRowsOfRank,
                       .max_updates = kWarmUp + updates});
  char line[32];
  std::snprintf(line, sizeof line, "%.3f", clock.microseconds(updates));
  accelerator.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    if (argc != 3) throw std::invalid_argument("benchmark_ranks MODEL UPDATES");
    at::set_num_threads(1);
    measure(argv[1], std::stoll(argv[2]));
  });
}
