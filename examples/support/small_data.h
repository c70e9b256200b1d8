// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdint>
#include <string>

namespace examples {

/// The command line of the examples that show one feature each. With batches counted over all
/// ranks, a program gives the same result on any number of them.
struct SmallRun {
  std::int64_t epochs = 8;
  std::int64_t images = 4'000;  ///< to train on; a quarter as many are evaluated on
  std::int64_t global_batch_size = 32;
  std::uint64_t seed = 0;
};

/// Reads the command line; on --help or a mistake it prints and ends the program.
/// @param run  what holds where the command line says nothing.
SmallRun parse_small_run(int argc, char** argv, const std::string& description, SmallRun run = {});

/// Images of digits in memory: "data" (rows, 1, 28, 28) float in [0, 1], "target" (rows) int64.
struct SmallDigits {
  torch_accelerated::Dataset train;
  torch_accelerated::Dataset eval;
};

/// Digits that are rendered from the run's seed.
/// @throws ArgumentError  fewer than 4 images.
SmallDigits small_digits(const SmallRun& run);

}  // namespace examples
