// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "checkpoint/pickle_value.h"

namespace torch_accelerated {

/// The global of this module and name, if it is one of those that make up a tensor.
std::optional<PickleGlobal> pickle_global(std::string_view module, std::string_view name);

}  // namespace torch_accelerated
