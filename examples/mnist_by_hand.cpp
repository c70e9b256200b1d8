// SPDX-License-Identifier: Apache-2.0
//
// What mnist.cpp does with a Trainer, with the Accelerator alone: for a loop that is your own.
//
//   build/examples/mnist_by_hand [--data DIR]
//   mpirun -n 2 build/examples/mnist_by_hand --global-batch-size 32
//
// Ends with the same two lines as build/examples/mnist, hash included.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/digits.h"
#include "support/mnist_mlp.h"
#include "support/mnist_options.h"
#include "support/weights_hash.h"

namespace ta = torch_accelerated;

namespace {

double accuracy_of(torch::nn::Sequential model, ta::BatchSource& loader,
                   ta::Accelerator& accelerator) {
  const torch::NoGradGuard no_grad;
  model->eval();
  ta::RunningMean accuracy;
  const auto hits = ta::accuracy();
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    if (batch->empty()) continue;  // other ranks have the rows
    accuracy.add(hits({{"output", model->forward((*batch)["data"])}}, *batch), batch->rows());
  }
  model->train();
  const auto sums =
      accelerator.reduce(torch::tensor({accuracy.sum(), accuracy.weight()}, torch::kFloat64));
  return sums[0].item<double>() / sums[1].item<double>();
}

void train_and_test(const examples::MnistOptions& options) {
  const auto digits = examples::load_digits(options.data, options.seed);
  torch::manual_seed(options.seed);
  auto model = examples::make_mnist_mlp();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9));
  torch::nn::CrossEntropyLoss loss_function;

  ta::Accelerator accelerator;
  accelerator.prepare(*model);
  accelerator.prepare(optimizer);
  const auto batch_size = options.global_batch_size.value_or(
      options.per_device_batch_size.value_or(32) * accelerator.world_size());
  auto train_loader = accelerator.prepare(
      digits.train, {.batch_size = batch_size, .shuffle = true, .seed = options.seed});
  auto eval_loader = accelerator.prepare(digits.eval, {.batch_size = 64});
  auto test_loader = accelerator.prepare(digits.test, {.batch_size = 64});

  for (std::int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    train_loader->start_epoch(epoch);
    while (const auto batch = train_loader->next()) {
      const auto update = train_loader->position() - 1;
      const ta::WindowPosition position{.rows = batch->rows(),
                                        .window_rows = train_loader->rows_of(update, 1)};
      if (batch->empty()) {
        accelerator.skip_backward(optimizer, position);
      } else {
        const auto output = model->forward((*batch)["data"]);
        accelerator.backward(loss_function(output, (*batch)["target"]), optimizer, position);
      }
      accelerator.step(optimizer);
      optimizer.zero_grad();
    }
    char line[64];
    std::snprintf(line, sizeof line, "epoch %ld  eval_accuracy %.4f", static_cast<long>(epoch + 1),
                  accuracy_of(model, *eval_loader, accelerator));
    accelerator.print(line);
  }
  char line[32];
  std::snprintf(line, sizeof line, "test accuracy %.4f",
                accuracy_of(model, *test_loader, accelerator));
  accelerator.print(line);
  accelerator.print("weights sha256 " + examples::weights_sha256(*model));
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] { train_and_test(examples::parse_mnist_options(argc, argv)); });
}
