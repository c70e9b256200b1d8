// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace torch_accelerated {

/// Whether a tensor of these sizes and strides (as many, in values) that begins `offset` values
/// into a storage of `values` lies inside it; false where one of them is negative. One without
/// values does.
bool fits_storage(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::uint64_t offset, std::uint64_t values);

/// Copies such a tensor, of values of `value_bytes` (1, 2, 4 or 8), to `destination`, row by row
/// without gaps.
void copy_strided(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::uint64_t offset, std::string_view storage, std::size_t value_bytes,
                  void* destination);

}  // namespace torch_accelerated
