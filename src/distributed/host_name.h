// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated::detail {

/// This computer's name, for messages.
std::string host_name();

}  // namespace torch_accelerated::detail
