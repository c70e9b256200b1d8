// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace torch_accelerated {

/// The device that `name` asks for; an empty name takes CUDA where there is a GPU, else the CPU.
/// @throws ArgumentError  a name that isn't one, or a device that isn't there.
c10::Device resolve_device(const std::string& name);

}  // namespace torch_accelerated
