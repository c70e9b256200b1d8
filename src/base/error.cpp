// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

Error::Error(const std::string& message, std::source_location place)
    : std::runtime_error(message), place_(place) {}

}  // namespace torch_accelerated
