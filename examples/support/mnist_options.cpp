// SPDX-License-Identifier: Apache-2.0
#include "support/mnist_options.h"

#include <CLI/CLI.hpp>

#include <cstdlib>

namespace examples {

namespace {

void add_checkpoint_options(CLI::App& app, MnistOptions& options) {
  auto* directory = app.add_option("--checkpoint-dir", options.checkpoint_directory,
                                   "folder for checkpoints; one is saved at the end");
  app.add_option("--save-every-updates", options.save_every_updates, "saves one so often besides")
      ->needs(directory);
  app.add_flag("--resume", options.resume,
               "goes on from the newest checkpoint in the folder, if there is one")
      ->needs(directory);
}

}  // namespace

MnistOptions parse_mnist_options(int argc, char** argv, bool keeps_checkpoints) {
  MnistOptions options;
  CLI::App app("Trains a small network on images of digits and tests it.");
  app.add_option("--data", options.data,
                 "folder with the MNIST files, plain or .gz; digits are rendered without it");
  app.add_option("--epochs", options.epochs, "how often all images are trained on")
      ->capture_default_str();
  auto* per_device = app.add_option("--per-device-batch-size", options.per_device_batch_size,
                                    "images of a micro-batch (32)");
  app.add_option("--global-batch-size", options.global_batch_size,
                 "images of an update, over all devices")
      ->excludes(per_device);
  app.add_option("--seed", options.seed, "of weights, order and split")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--deterministic", options.deterministic_shards,
                 "shards of an update, a power of two: the same bits on 1, 2, 4 … ranks with one "
                 "--global-batch-size");
  app.add_option("--output", options.output, "folder for history.jsonl");
  if (keeps_checkpoints) add_checkpoint_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (!options.per_device_batch_size && !options.global_batch_size) {
    auto& size =
        options.deterministic_shards ? options.global_batch_size : options.per_device_batch_size;
    size = 32;
  }
  return options;
}

}  // namespace examples
