// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "torch_accelerated/core/state_value.h"

namespace torch_accelerated {

/// What a text of values may hold at most; more is refused.
struct StateTextLimits {
  static constexpr std::size_t kBytes = std::size_t{1} << 28;
  static constexpr std::size_t kEntries = 1'000'000;
};

/// The values as one JSON object, one to a line. Numbers read back to the same bits, also those
/// that aren't finite: they stand as {"number": "nan"}, "-nan", "inf" or "-inf".
///
/// @throws ArgumentError  what can't be read back: text that isn't UTF-8, a value without a name,
/// or
///                        more than the limits.
std::string state_text(const std::vector<StateEntry>& values);

/// What `state_text` wrote, in the same order.
///
/// @throws CheckpointError  anything else; the text names the file and the entry.
std::vector<StateEntry> parse_state_text(std::string_view text, std::string_view file_name);

}  // namespace torch_accelerated
