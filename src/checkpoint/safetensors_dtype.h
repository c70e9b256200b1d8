// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace torch_accelerated {

/// The value types of the safetensors format, those that LibTorch lacks included.
enum class SafetensorsDtype : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
  kC64,
  kF8E4m3,
  kF8E5m2,
  kF8E8m0,
  kF8E4m3Fnuz,
  kF8E5m2Fnuz,
  kF6E2m3,
  kF6E3m2,
  kF4,
};

/// The type of this name, such as "BF16"; nothing where the format has none.
std::optional<SafetensorsDtype> safetensors_dtype(std::string_view name);

/// The format's name of a type.
std::string_view safetensors_dtype_name(SafetensorsDtype dtype);

/// How many bits a value of this type takes.
std::uint64_t safetensors_bits(SafetensorsDtype dtype);

/// How many bytes a tensor takes; nothing where a size is negative, where the product of the sizes
/// other than 0 goes beyond 2^63 - 1 bits, or where the values don't fill whole bytes.
std::optional<std::uint64_t> safetensors_bytes(SafetensorsDtype dtype,
                                               std::span<const std::int64_t> shape);

}  // namespace torch_accelerated
