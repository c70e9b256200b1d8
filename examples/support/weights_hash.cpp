// SPDX-License-Identifier: Apache-2.0
#include "support/weights_hash.h"

#include <torch_accelerated/base/sha256.h>

#include <map>

namespace examples {

std::string weights_sha256(const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& parameter : module.named_parameters()) {
    tensors[parameter.key()] = parameter.value();
  }
  for (const auto& buffer : module.named_buffers()) tensors[buffer.key()] = buffer.value();

  torch_accelerated::Sha256 hash;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = tensor.detach().cpu().contiguous();
    hash.update(bytes.data_ptr(), bytes.nbytes());
  }
  return hash.hex_digest();
}

}  // namespace examples
