// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Moves tensors on `device`, and on the CPU, between the ranks of `host`: on the CPU by a
/// duplicate of `host`, on CUDA by NCCL where the library was built with it, on any other device
/// and where NCCL can't be used staged through the host. Collective; `name()` tells which it is.
/// @param host    moves CPU tensors; control messages go over a duplicate of it.
/// @param staged  not by NCCL: two ranks have one GPU. The same on all ranks.
std::unique_ptr<Communicator> make_device_communicator(Communicator& host, c10::Device device,
                                                       bool staged);

}  // namespace torch_accelerated
