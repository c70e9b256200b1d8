// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Which tensors are copied to the host.
enum class Staging {
  kDeviceTensors,  ///< those that are not on the CPU
  kAllTensors,     ///< those on the CPU too, for tests without a device
};

/// Moves tensors of any device between the ranks of `host`, through host memory, which is pinned
/// where there is CUDA; tensors that are on the CPU, and bytes, go over `host` as they are.
///
/// Copies run on the current stream. The host waits for it once before each operation; what the
/// current stream does after a `wait` comes after the copy back.
/// @param host  moves CPU tensors.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       Staging staging = Staging::kDeviceTensors);

}  // namespace torch_accelerated
