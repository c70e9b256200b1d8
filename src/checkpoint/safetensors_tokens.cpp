// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_tokens.h"

#include <cstddef>

#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

enum class Kind { kSpace, kMark, kText, kOther };

Kind kind_of(char letter) {
  switch (letter) {
    case '"':
      return Kind::kText;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
      return Kind::kSpace;
    case ',':
    case ':':
    case '[':
    case ']':
    case '{':
    case '}':
      return Kind::kMark;
    default:
      return Kind::kOther;
  }
}

// One beyond the piece that begins at `begin`.
std::size_t piece_end(std::string_view json, std::size_t begin) {
  const Kind kind = kind_of(json[begin]);
  std::size_t end = begin + 1;
  if (kind == Kind::kMark) return end;
  if (kind != Kind::kText) {
    while (end < json.size() && kind_of(json[end]) == kind) ++end;
    return end;
  }
  while (end < json.size() && json[end] != '"') end += json[end] == '\\' ? 2 : 1;
  return end + 1;
}

}  // namespace

void check_safetensors_tokens(std::string_view json, std::string_view file_name) {
  constexpr std::size_t kLengthBytes = 8;
  // The JSON reader would take a zero byte for the end.
  const std::size_t zero = json.find('\0');
  if (zero != std::string_view::npos) {
    refuse_safetensors(file_name, "offset ", kLengthBytes + zero,
                       ": the header has a zero byte, expected text; download or copy the file "
                       "again.");
  }
  for (std::size_t at = 0; at < json.size();) {
    const std::size_t end = piece_end(json, at);
    if (end - at > SafetensorsLimits::kTextBytes) {
      refuse_safetensors(file_name, "offset ", kLengthBytes + at, ": a text, number or space of ",
                         end - at, " bytes begins, expected at most ",
                         SafetensorsLimits::kTextBytes, "; write the file again.");
    }
    at = end;
  }
}

}  // namespace torch_accelerated
