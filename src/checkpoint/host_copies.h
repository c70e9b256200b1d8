// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <unordered_map>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Copies tensors into memory of the host that the next copy of the same names uses again, pinned
/// for those on a GPU: the second copy costs no more than moving the bytes.
class HostCopies {
 public:
  HostCopies();
  ~HostCopies();

  /// The numbers as they are now. The tensors that it gave before are written to.
  TensorDict of(const TensorDict& tensors);

 private:
  std::unordered_map<std::string, torch::Tensor> buffers_;
};

}  // namespace torch_accelerated
