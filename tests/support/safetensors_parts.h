// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/safetensors_file_writer.h"
#include "torch_accelerated/base/random_stream.h"

namespace torch_accelerated::testing {

/// Tensors with random values that it holds, to be written.
class SafetensorsParts {
 public:
  void add(std::string name, SafetensorsDtype dtype, std::vector<std::int64_t> shape) {
    RandomStream stream(7, 0, parts_.size());
    std::string& values = values_.emplace_back(safetensors_bytes(dtype, shape).value(), '\0');
    for (char& value : values) value = static_cast<char>(stream.below(256));
    parts_.push_back({std::move(name), dtype, std::move(shape), values.data()});
  }

  const std::vector<SafetensorsPart>& parts() const { return parts_; }

  /// The values of the i-th one.
  std::string_view values(std::size_t i) const { return values_[i]; }

 private:
  std::vector<SafetensorsPart> parts_;
  std::deque<std::string> values_;  // which stay where they are
};

/// A tensor of each type, one that is a number and two without values.
inline SafetensorsParts parts_of_all_kinds() {
  SafetensorsParts parts;
  for (int i = 0; i <= static_cast<int>(SafetensorsDtype::kF4); ++i) {
    const auto dtype = static_cast<SafetensorsDtype>(i);
    parts.add(std::string(safetensors_dtype_name(dtype)), dtype, {3, 4});
  }
  parts.add("number", SafetensorsDtype::kF64, {});
  parts.add("none", SafetensorsDtype::kF32, {0, 5});
  parts.add("", SafetensorsDtype::kU8, {0});
  return parts;
}

}  // namespace torch_accelerated::testing
