// SPDX-License-Identifier: Apache-2.0
// What compressed gradients cost in exactness: the MNIST network, trained with and without.
//   mpirun -n 2 build/tests/benchmarks/benchmark_compression [DIR]
// DIR has MNIST's files; without it the digits are rendered.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/digits.h"
#include "support/mnist_mlp.h"

namespace ta = torch_accelerated;

namespace {

struct Outcome {
  std::vector<torch::Tensor> weights;
  double loss = 0;      // of the last epoch
  double accuracy = 0;  // on the test images
};

Outcome trained(const examples::DigitSplits& digits, ta::GradientCompression compression) {
  torch::manual_seed(0);
  auto model = examples::make_mnist_mlp();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9));
  ta::Accelerator accelerator({.device = "cpu", .gradient_compression = compression});
  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer, ta::CallbackList(),
                      &accelerator);
  trainer.add_metric("accuracy", ta::accuracy());
  const auto result = trainer.train(digits.train, {.num_epochs = 8, .global_batch_size = 64});
  const auto test = trainer.evaluate(digits.test, {.per_device_batch_size = 64});
  return {model->parameters(), result.metrics["train_loss"], test.metrics["eval_accuracy"]};
}

// ||a - b|| / ||b|| over all parameters.
double relative_error(const Outcome& a, const Outcome& b) {
  const torch::NoGradGuard no_grad;
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.weights.size(); ++i) {
    error += (a.weights[i] - b.weights[i]).square().sum().item<double>();
    size += b.weights[i].square().sum().item<double>();
  }
  return std::sqrt(error / size);
}

void compare(const std::optional<std::filesystem::path>& directory) {
  const auto digits = examples::load_digits(directory, 0);
  const auto plain = trained(digits, ta::GradientCompression::kNone);
  const bool tells = ta::Accelerator({.device = "cpu"}).is_main_process();
  if (tells) std::printf("%-11s  train loss  test accuracy  weights apart\n", "compression");
  for (const auto compression : {ta::GradientCompression::kNone, ta::GradientCompression::kBf16,
                                 ta::GradientCompression::kFp16}) {
    const auto found = trained(digits, compression);
    if (!tells) continue;
    std::printf("%-11s  %10.6f  %13.4f  %13.1e\n", ta::to_string(compression), found.loss,
                found.accuracy, relative_error(found, plain));
  }
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    at::set_num_threads(1);
    compare(argc > 1 ? std::optional<std::filesystem::path>(argv[1]) : std::nullopt);
  });
}
