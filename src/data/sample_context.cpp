// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/sample_context.h"

namespace torch_accelerated {

RandomStream SampleContext::generator(std::int64_t index) const {
  return RandomStream(seed, epoch, index);
}

}  // namespace torch_accelerated
