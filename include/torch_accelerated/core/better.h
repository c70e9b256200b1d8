// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated {

/// Which values of a metric are better.
enum class Better { kLower, kHigher };

/// Whether `one` is better than `other`; false where either is NaN.
constexpr bool is_better(Better direction, double one, double other) noexcept {
  return direction == Better::kLower ? one < other : one > other;
}

}  // namespace torch_accelerated
