// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// Insertions, deletions and replacements of a character that make `b` of `a`.
/// @par Source  Wagner and Fischer 1974, The String-to-String Correction Problem.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

/// What of `names` is most like `name`, the first of several; empty where there are none.
inline std::string nearest(std::string_view name, const std::vector<std::string>& names) {
  const auto best =
      std::min_element(names.begin(), names.end(), [name](const auto& one, const auto& other) {
        return edit_distance(name, one) < edit_distance(name, other);
      });
  return best == names.end() ? std::string() : *best;
}

}  // namespace torch_accelerated
