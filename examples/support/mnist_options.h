// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace examples {

/// The command line of the two MNIST examples.
struct MnistOptions {
  std::optional<std::filesystem::path> data;
  std::int64_t epochs = 8;
  std::optional<std::int64_t> per_device_batch_size;
  std::optional<std::int64_t> global_batch_size;
  std::uint64_t seed = 0;
  std::optional<std::int64_t> deterministic_shards;
  std::optional<std::filesystem::path> output;
  std::filesystem::path checkpoint_directory;  // empty: none are kept
  std::optional<std::int64_t> save_every_updates;
  bool resume = false;  // from the newest one in `checkpoint_directory`, if there is any
};

/// Reads the command line; on --help or a mistake it prints and ends the program.
/// @param keeps_checkpoints  whether the example has the options of checkpoints.
MnistOptions parse_mnist_options(int argc, char** argv, bool keeps_checkpoints = false);

}  // namespace examples
