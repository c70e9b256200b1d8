// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace torch_accelerated {

/// The least number of parts of at most `part` >= 1 that hold `whole` >= 0, without overflow.
constexpr std::int64_t ceil_divide(std::int64_t whole, std::int64_t part) {
  return whole / part + (whole % part != 0 ? 1 : 0);
}

}  // namespace torch_accelerated
