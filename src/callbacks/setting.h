// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/text.h"
#include "torch_accelerated/core/better.h"

namespace torch_accelerated {

// How an option's value stands in Callback::settings(): numbers to the bit, "-" for none.

inline std::string setting(bool value) { return value ? "yes" : "no"; }
inline std::string setting(double value) { return exact_text(value); }
inline std::string setting(std::int64_t value) { return concat(value); }
inline std::string setting(const std::string& value) { return value; }
inline std::string setting(Better value) { return value == Better::kLower ? "lower" : "higher"; }

template <class Value>
std::string setting(const std::optional<Value>& value) {
  return value ? setting(*value) : "-";
}

}  // namespace torch_accelerated
