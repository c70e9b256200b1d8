// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <string>

namespace examples {

/// SHA-256 over the raw contiguous little-endian bytes of each parameter and buffer, sorted by
/// name.
std::string weights_sha256(const torch::nn::Module& module);

}  // namespace examples
