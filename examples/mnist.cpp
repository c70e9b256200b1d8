// SPDX-License-Identifier: Apache-2.0
//
// Trains a small network on images of digits.
//
//   build/examples/mnist                      70,000 digits that the program renders itself
//   build/examples/mnist --data DIR           the MNIST files in DIR, plain or .gz
//   build/examples/mnist --checkpoint-dir DIR --save-every-updates 500 --resume
//                                             the same result, however often it is killed and
//                                             started again
//   mpirun -n 2 build/examples/mnist --global-batch-size 32
//                                             the same result, trained on two ranks
//
// Ends with the accuracy on images that it was not trained on, about 0.88 on MNIST's 10,000 test
// images and above 0.9 on rendered ones, and a hash of the weights, equal for equal seeds.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>
#include <filesystem>

#include "support/digits.h"
#include "support/mnist_mlp.h"
#include "support/mnist_options.h"
#include "support/weights_hash.h"

namespace ta = torch_accelerated;

namespace {

void train_and_test(const examples::MnistOptions& options) {
  const auto digits = examples::load_digits(options.data, options.seed);
  torch::manual_seed(options.seed);
  auto model = examples::make_mnist_mlp();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.001).momentum(0.9));

  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer);
  trainer.print(std::to_string(digits.train.size()) + " images to train on, from " + digits.source);
  trainer.add_metric("accuracy", ta::accuracy());

  ta::TrainOptions run{.num_epochs = options.epochs,
                       .eval_dataset = digits.eval,
                       .per_device_batch_size = options.per_device_batch_size,
                       .global_batch_size = options.global_batch_size,
                       .eval_per_device_batch_size = 64,
                       .seed = options.seed,
                       .deterministic_shards = options.deterministic_shards,
                       .checkpoints = {.directory = options.checkpoint_directory}};
  if (!options.checkpoint_directory.empty()) {
    trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = options.save_every_updates}));
    trainer.callbacks().add(ta::StopOnSignal());
  }
  if (options.resume) run.resume_from = ta::latest_checkpoint(options.checkpoint_directory);
  if (options.output) {
    const auto history = *options.output / "history.jsonl";
    trainer.accelerator().main_process_first([&] {
      std::filesystem::create_directories(*options.output);
      // A run that goes on keeps its rows up to the checkpoint.
      if (!run.resume_from) std::filesystem::remove(history);
    });
    trainer.callbacks().add(ta::JsonLinesLogger(history));
  }

  const auto result = trainer.train(digits.train, run);
  if (result.was_stopped()) return trainer.print("stopped: " + result.stop_reason);

  const auto test = trainer.evaluate(digits.test, {.per_device_batch_size = 64});
  char line[32];
  std::snprintf(line, sizeof line, "test accuracy %.4f", test.metrics["eval_accuracy"]);
  trainer.print(line);
  trainer.print("weights sha256 " + examples::weights_sha256(*model));
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    train_and_test(examples::parse_mnist_options(argc, argv, /*keeps_checkpoints=*/true));
  });
}
