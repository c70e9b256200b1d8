// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_dtype.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

namespace torch_accelerated {
namespace {

struct Row {
  SafetensorsDtype dtype;
  std::string_view name;
  std::uint64_t bits;
};

// In the order of the enum.
constexpr std::array kRows{
    Row{SafetensorsDtype::kBool, "BOOL", 8},
    Row{SafetensorsDtype::kU8, "U8", 8},
    Row{SafetensorsDtype::kI8, "I8", 8},
    Row{SafetensorsDtype::kI16, "I16", 16},
    Row{SafetensorsDtype::kU16, "U16", 16},
    Row{SafetensorsDtype::kF16, "F16", 16},
    Row{SafetensorsDtype::kBf16, "BF16", 16},
    Row{SafetensorsDtype::kI32, "I32", 32},
    Row{SafetensorsDtype::kU32, "U32", 32},
    Row{SafetensorsDtype::kF32, "F32", 32},
    Row{SafetensorsDtype::kI64, "I64", 64},
    Row{SafetensorsDtype::kU64, "U64", 64},
    Row{SafetensorsDtype::kF64, "F64", 64},
    Row{SafetensorsDtype::kC64, "C64", 64},
    Row{SafetensorsDtype::kF8E4m3, "F8_E4M3", 8},
    Row{SafetensorsDtype::kF8E5m2, "F8_E5M2", 8},
    Row{SafetensorsDtype::kF8E8m0, "F8_E8M0", 8},
    Row{SafetensorsDtype::kF8E4m3Fnuz, "F8_E4M3FNUZ", 8},
    Row{SafetensorsDtype::kF8E5m2Fnuz, "F8_E5M2FNUZ", 8},
    Row{SafetensorsDtype::kF6E2m3, "F6_E2M3", 6},
    Row{SafetensorsDtype::kF6E3m2, "F6_E3M2", 6},
    Row{SafetensorsDtype::kF4, "F4", 4},
};

constexpr bool is_in_order() {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<std::size_t>(kRows[i].dtype) != i) return false;
  }
  return true;
}
static_assert(is_in_order());

const Row& row_of(SafetensorsDtype dtype) { return kRows[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::optional<SafetensorsDtype> safetensors_dtype(std::string_view name) {
  const auto* row = std::find_if(kRows.begin(), kRows.end(),
                                 [&](const Row& candidate) { return candidate.name == name; });
  if (row == kRows.end()) return std::nullopt;
  return row->dtype;
}

std::string_view safetensors_dtype_name(SafetensorsDtype dtype) { return row_of(dtype).name; }

std::uint64_t safetensors_bits(SafetensorsDtype dtype) { return row_of(dtype).bits; }

// Strides are products of the other sizes even where one is 0, so that those must not overflow.
std::optional<std::uint64_t> safetensors_bytes(SafetensorsDtype dtype,
                                               std::span<const std::int64_t> shape) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bits = safetensors_bits(dtype);
  bool is_empty = false;
  for (std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0) {
      is_empty = true;
    } else if (static_cast<std::uint64_t>(size) > kMost / bits) {
      return std::nullopt;
    } else {
      bits *= static_cast<std::uint64_t>(size);
    }
  }
  if (is_empty) return 0;
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

}  // namespace torch_accelerated
