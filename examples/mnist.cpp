// SPDX-License-Identifier: Apache-2.0
//
// Trains a small network on images of digits.
//
//   build/examples/mnist                      70,000 digits that the program renders itself
//   build/examples/mnist --data DIR           the MNIST files in DIR, plain or .gz
//
// Ends with the accuracy on images that it was not trained on, about 0.88 on MNIST's 10,000 test
// images and above 0.9 on rendered ones, and a hash of the weights, equal for equal seeds.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/digits.h"
#include "support/history_file.h"
#include "support/mnist_mlp.h"
#include "support/mnist_options.h"
#include "support/weights_hash.h"

namespace ta = torch_accelerated;

namespace {

void train_and_test(const examples::MnistOptions& options) {
  const auto digits = examples::load_digits(options.data, options.seed);
  std::printf("%ld images to train on, from %s\n", static_cast<long>(digits.train.size()),
              digits.source.c_str());

  torch::manual_seed(options.seed);
  auto model = examples::make_mnist_mlp();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9));

  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer);
  trainer.add_metric("accuracy", ta::accuracy());
  if (options.output) trainer.callbacks().add(examples::HistoryFile(*options.output));

  trainer.train(digits.train, {.num_epochs = options.epochs,
                               .eval_dataset = digits.eval,
                               .per_device_batch_size = options.per_device_batch_size,
                               .global_batch_size = options.global_batch_size,
                               .eval_per_device_batch_size = 64,
                               .seed = options.seed});

  const auto test = trainer.evaluate(digits.test, {.per_device_batch_size = 64});
  std::printf("test accuracy %.4f\n", test.metrics["eval_accuracy"]);
  std::printf("weights sha256 %s\n", examples::weights_sha256(*model).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    train_and_test(examples::parse_mnist_options(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
