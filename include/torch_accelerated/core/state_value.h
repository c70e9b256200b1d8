// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace torch_accelerated {

/// A value of a State that is no tensor.
using StateValue = std::variant<bool, std::int64_t, double, std::string, std::vector<double>>;

/// A value with its name.
using StateEntry = std::pair<std::string, StateValue>;

}  // namespace torch_accelerated
