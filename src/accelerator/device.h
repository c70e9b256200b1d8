// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "torch_accelerated/distributed/world.h"

namespace torch_accelerated {

/// The device that `name` asks for; an empty name takes CUDA where there is a GPU, else the CPU.
/// Where a host has several ranks and "cuda" is asked for without an index, each takes the GPU of
/// its local rank, or the only one that a launcher lets it see.
/// @param share  whether several ranks of a host may have one GPU.
/// @throws ArgumentError  a name that isn't one, a device that isn't there, or fewer GPUs than
/// ranks
///                        on this host.
c10::Device resolve_device(const std::string& name, const World& world, bool share);

/// The same where this program sees `gpus` GPUs.
c10::Device resolve_device(const std::string& name, const World& world, bool share, int gpus);

/// The most memory that LibTorch has had in use on `device` since the last reset, in bytes; nothing
/// on the CPU, whose allocator doesn't count.
std::optional<double> peak_device_bytes(c10::Device device);
void reset_peak_device_bytes(c10::Device device);

/// Collective: no two ranks of a host may have one GPU.
/// @throws ArgumentError  on all ranks, with two of them and what they see.
void check_devices(c10::Device device, const World& world);

}  // namespace torch_accelerated
