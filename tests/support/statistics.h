// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

namespace torch_accelerated::testing {

/// How many standard deviations the chi-squared statistic of `counts` lies above what equally
/// likely cells would give (Wilson and Hilferty 1931); 5 or more doesn't happen by chance.
inline double deviations_from_uniform(std::span<const std::int64_t> counts) {
  double total = 0;
  for (std::int64_t count : counts) total += static_cast<double>(count);
  const double expected = total / static_cast<double>(counts.size());
  double chi_squared = 0;
  for (std::int64_t count : counts) {
    const double difference = static_cast<double>(count) - expected;
    chi_squared += difference * difference / expected;
  }
  const double freedom = static_cast<double>(counts.size() - 1);
  const double spread = 2.0 / (9.0 * freedom);
  return (std::cbrt(chi_squared / freedom) - (1.0 - spread)) / std::sqrt(spread);
}

}  // namespace torch_accelerated::testing
