// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "checkpoint/safetensors_header.h"

namespace torch_accelerated::testing {

/// A safetensors file with this header, written as it is, and this much data.
inline std::string safetensors_file(std::string_view json, std::size_t data_bytes = 0) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(json.size() >> 8 * i & 0xFF);
  file += json;
  return file.append(data_bytes, '\1');
}

/// What Python's safetensors 0.8.0 made of
///   save({"w": float32 [[1, 2], [3, 4]], "count": int64 [7, -8], "mask": [True, False, True],
///         "none": float16 of (0, 5), 'scalar é"': float64 2.5}, metadata={"format": "pt"})
inline std::string python_safetensors_file() {
  using namespace std::string_view_literals;
  std::string file = safetensors_file(
      R"({"__metadata__":{"format":"pt"},"count":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
      "\"scalar \xC3\xA9\\\"\""
      R"(:{"dtype":"F64","shape":[],"data_offsets":[16,24]},"w":{"dtype":"F32","shape":[2,2],)"
      R"("data_offsets":[24,40]},"none":{"dtype":"F16","shape":[0,5],"data_offsets":[40,40]},)"
      R"("mask":{"dtype":"BOOL","shape":[3],"data_offsets":[40,43]}}      )");
  file +=
      "\7\0\0\0\0\0\0\0\xF8\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0\0\0\4@"
      "\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\1\0\1"sv;
  return file;
}

/// Tensors of several kinds, laid out.
inline std::vector<SafetensorsEntry> some_tensors() {
  const auto tensor = [](std::string name, SafetensorsDtype dtype,
                         std::vector<std::int64_t> shape) {
    SafetensorsEntry entry;
    entry.name = std::move(name);
    entry.dtype = dtype;
    entry.shape = std::move(shape);
    return entry;
  };
  return lay_out_safetensors({
      tensor("mask", SafetensorsDtype::kBool, {3}),
      tensor("layer.weight", SafetensorsDtype::kF32, {2, 3}),
      tensor("layer.bias", SafetensorsDtype::kBf16, {2}),
      tensor("a \"quoted\\ name\n\xC3\xA9", SafetensorsDtype::kI64, {}),
      tensor("", SafetensorsDtype::kF8E4m3, {4, 0, 2}),
      tensor("four bits", SafetensorsDtype::kF4, {2, 5}),
  });
}

/// A file as ours are written: the values first, then the header with their checksums.
inline std::string own_safetensors_file(std::vector<SafetensorsEntry> tensors) {
  std::string data;
  for (std::uint64_t i = 0; i < (tensors.empty() ? 0 : tensors.back().end); ++i) {
    data += static_cast<char>(i * 37 + 1);
  }
  for (SafetensorsEntry& tensor : tensors) {
    tensor.crc = crc32c(data.data() + tensor.begin, tensor.end - tensor.begin);
  }
  return write_safetensors_header(tensors, {{"format", "pt"}, {"made by", "a test"}}) + data;
}

}  // namespace torch_accelerated::testing
