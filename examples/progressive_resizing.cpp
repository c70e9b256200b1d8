// SPDX-License-Identifier: Apache-2.0
//
// Progressive resizing: one model and one Trainer, trained on small images first, where a step
// costs little, and on larger ones after that. Each size is a run of its own with its own learning
// rates; with `reset_history = false` the history goes on from run to run. The images are resized
// by a Dataset of the program's, and the model ends in adaptive pooling, so it takes images of any
// size.
//
//   build/examples/progressive_resizing [--epochs N] [--images N] [--seed N]
//                                                          N epochs at each size
//   mpirun -n 2 build/examples/progressive_resizing        the same on two ranks
//
// Ends near "accuracy 0.92 at 28 x 28 after 6 epochs", within 0.04.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/small_data.h"

namespace ta = torch_accelerated;

namespace {

/// The samples of another dataset, with images of `side` x `side` pixels.
class Resized {
 public:
  Resized(ta::Dataset original, std::int64_t side) : original_(std::move(original)), side_(side) {}

  std::int64_t size() const { return original_.size(); }

  ta::Batch get_batch(std::span<const std::int64_t> indices,
                      const ta::SampleContext& context) const {
    auto batch = original_.get_batch(indices, context);
    batch.set("data", torch::adaptive_avg_pool2d(batch["data"], {side_, side_}));
    return batch;
  }

 private:
  ta::Dataset original_;
  std::int64_t side_;
};

torch::nn::Sequential make_model() {
  namespace nn = torch::nn;
  const auto convolution = [](std::int64_t in, std::int64_t out) {
    return nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1));
  };
  return nn::Sequential(convolution(1, 8), nn::ReLU(), nn::MaxPool2d(2), convolution(8, 16),
                        nn::ReLU(), nn::MaxPool2d(2), convolution(16, 32), nn::ReLU(),
                        nn::AdaptiveMaxPool2d(3), nn::Flatten(), nn::Linear(32 * 9, 10));
}

void train(const examples::SmallRun& run) {
  const auto digits = examples::small_digits(run);
  torch::manual_seed(run.seed);
  auto model = make_model();
  torch::optim::AdamW optimizer(model->parameters(), 0.003);

  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer);
  trainer.add_metric("accuracy", ta::accuracy());
  ta::RunResult result;
  for (const std::int64_t side : {14, 20, 28}) {
    trainer.print("\nImages of " + std::to_string(side) + " x " + std::to_string(side));
    result = trainer.train(Resized(digits.train, side), {.num_epochs = run.epochs,
                                                         .eval_dataset = Resized(digits.eval, side),
                                                         .global_batch_size = run.global_batch_size,
                                                         .scheduler = ta::cosine(),
                                                         .reset_history = side == 14,
                                                         .seed = run.seed});
  }
  char line[64];
  std::snprintf(line, sizeof line, "accuracy %.2f at 28 x 28 after %d epochs",
                result.metrics["eval_accuracy"],
                static_cast<int>(trainer.history().rows().back().epoch));
  trainer.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    train(examples::parse_small_run(argc, argv, "Trains on digits of growing size.",
                                    {.epochs = 2, .images = 2'000}));
  });
}
