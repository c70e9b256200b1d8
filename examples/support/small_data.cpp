// SPDX-License-Identifier: Apache-2.0
#include "support/small_data.h"

#include <CLI/CLI.hpp>

#include <cstdlib>

#include "support/rendered_digits.h"

namespace examples {
namespace {

namespace ta = torch_accelerated;

ta::Batch rows_of(const DigitImages& digits) {
  constexpr auto side = DigitImages::kSide;
  return {{"data", torch::tensor(digits.pixels, torch::kUInt8)
                       .reshape({digits.count, 1, side, side})
                       .to(torch::kFloat32)
                       .div_(255)},
          {"target", torch::tensor(digits.labels, torch::kInt64)}};
}

}  // namespace

SmallRun parse_small_run(int argc, char** argv, const std::string& description, SmallRun run) {
  CLI::App app(description);
  app.add_option("--epochs", run.epochs, "how often all images are trained on")
      ->capture_default_str();
  app.add_option("--images", run.images, "to train on; a quarter as many are evaluated on")
      ->capture_default_str();
  app.add_option("--global-batch-size", run.global_batch_size,
                 "images of an update, over all devices")
      ->capture_default_str();
  app.add_option("--seed", run.seed, "of images, weights and order")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return run;
}

SmallDigits small_digits(const SmallRun& run) {
  if (run.images < 4) {
    throw ta::ArgumentError("--images must be >= 4, got " + std::to_string(run.images) +
                            ", as a quarter as many are evaluated on");
  }
  const auto held_out = run.images / 4;
  const auto parts = ta::random_split(rows_of(render_digits(run.images + held_out, run.seed)),
                                      {run.images, held_out}, run.seed);
  return {parts[0], parts[1]};
}

}  // namespace examples
