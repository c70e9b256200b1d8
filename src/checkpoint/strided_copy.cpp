// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/strided_copy.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace torch_accelerated {
namespace {

bool is_empty(std::span<const std::int64_t> shape) {
  return std::find(shape.begin(), shape.end(), 0) != shape.end();
}

// The strides of trailing sizes of 1 don't matter; neither do others'.
bool is_contiguous(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  std::int64_t values = 1;
  for (std::size_t i = shape.size(); i > 0; --i) {
    if (shape[i - 1] == 1) continue;
    if (strides[i - 1] != values) return false;
    values *= shape[i - 1];
  }
  return true;
}

template <std::size_t kBytes>
char* copy_row(const char* from, std::int64_t stride, std::int64_t count, char* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(to, from, kBytes);
    to += kBytes;
    // Not beyond the last value, where the sum could leave the storage.
    if (i + 1 < count) from += stride * static_cast<std::int64_t>(kBytes);
  }
  return to;
}

using CopyRow = char* (*)(const char*, std::int64_t, std::int64_t, char*);

CopyRow row_copier(std::size_t value_bytes) {
  switch (value_bytes) {
    case 1:
      return copy_row<1>;
    case 2:
      return copy_row<2>;
    case 4:
      return copy_row<4>;
    default:
      return copy_row<8>;
  }
}

// Sets the next row's indices, the last first; false after the last row.
bool advance(std::vector<std::int64_t>& indices, std::span<const std::int64_t> shape) {
  for (std::size_t i = indices.size(); i > 0; --i) {
    if (++indices[i - 1] < shape[i - 1]) return true;
    indices[i - 1] = 0;
  }
  return false;
}

}  // namespace

bool fits_storage(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::uint64_t offset, std::uint64_t values) {
  const auto is_negative = [](std::int64_t number) { return number < 0; };
  if (std::any_of(shape.begin(), shape.end(), is_negative) ||
      std::any_of(strides.begin(), strides.end(), is_negative)) {
    return false;
  }
  if (is_empty(shape)) return true;
  if (offset >= values) return false;
  std::uint64_t left = values - 1 - offset;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto steps = static_cast<std::uint64_t>(shape[i] - 1);
    const auto stride = static_cast<std::uint64_t>(strides[i]);
    if (stride != 0 && steps > left / stride) return false;
    left -= steps * stride;
  }
  return true;
}

void copy_strided(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::uint64_t offset, std::string_view storage, std::size_t value_bytes,
                  void* destination) {
  if (is_empty(shape)) return;
  const char* first = storage.data() + offset * value_bytes;
  auto* to = static_cast<char*>(destination);
  if (is_contiguous(shape, strides)) {
    std::size_t bytes = value_bytes;
    for (std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    std::memcpy(to, first, bytes);
    return;
  }
  const CopyRow copy_row = row_copier(value_bytes);
  const std::size_t last = shape.size() - 1;
  std::vector<std::int64_t> indices(last, 0);
  do {
    std::uint64_t at = 0;
    for (std::size_t i = 0; i < last; ++i) {
      at += static_cast<std::uint64_t>(indices[i]) * static_cast<std::uint64_t>(strides[i]);
    }
    to = copy_row(first + at * value_bytes, strides[last], shape[last], to);
  } while (advance(indices, shape));
}

}  // namespace torch_accelerated
