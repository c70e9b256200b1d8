// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

/// What a header of our own begins with, as no other writer's does (two spaces), followed by its
/// checksum.
inline constexpr std::string_view kSafetensorsMark = R"({"__metadata__":  {"crc32c":")";

/// Begins the key of a tensor's checksum; without the colon it is the header's own.
inline constexpr std::string_view kSafetensorsCrcKey = "crc32c:";

/// Text out of a file as an error may show it: printable and not long.
inline std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 100;
  std::string result;
  for (char letter : text.substr(0, kShown)) {
    result += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return text.size() > kShown ? result + "..." : result;
}

/// 8 lower-case hexadecimal digits.
inline std::string crc_text(std::uint32_t crc) {
  std::string text;
  for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[crc >> shift & 15];
  return text;
}

/// The number of 8 lower-case hexadecimal digits; nothing where the text is anything else.
inline std::optional<std::uint32_t> crc_from_text(std::string_view text) {
  if (text.size() != 8) return std::nullopt;
  std::uint32_t crc = 0;
  for (char letter : text) {
    const auto digit = std::string_view("0123456789abcdef").find(letter);
    if (digit == std::string_view::npos) return std::nullopt;
    crc = crc << 4 | static_cast<std::uint32_t>(digit);
  }
  return crc;
}

/// Refuses a file.
template <class... Parts>
[[noreturn]] void refuse_safetensors(std::string_view file_name, const Parts&... parts) {
  throw DataError(concat("safetensors file '", file_name, "': ", parts...));
}

}  // namespace torch_accelerated
