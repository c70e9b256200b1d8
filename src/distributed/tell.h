// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated::detail {

/// Prints the first line of `text` to stderr, with the rank before it unless it names it itself.
/// @param rank  negative: none.
void tell(const std::string& text, int rank) noexcept;

}  // namespace torch_accelerated::detail
