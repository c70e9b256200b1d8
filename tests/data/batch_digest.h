// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "torch_accelerated/data/batch_source.h"

namespace torch_accelerated::testing {

/// 64 bits that differ where two batches do: names, dtypes, shapes and every bit of the values
/// (FNV-1a).
inline std::uint64_t digest(const Batch& batch) {
  std::uint64_t hash = 0xCBF29CE484222325;
  const auto add = [&hash](const void* bytes, std::size_t size) {
    const auto* begin = static_cast<const unsigned char*>(bytes);
    for (const auto* byte = begin; byte != begin + size; ++byte) {
      hash = (hash ^ *byte) * 0x100000001B3;
    }
  };
  for (const auto& [name, value] : batch) {
    std::ostringstream text;
    text << name << ' ' << value.dtype() << ' ' << value.sizes();
    add(text.str().data(), text.str().size());
    const torch::Tensor dense = value.contiguous();
    add(dense.data_ptr(), dense.nbytes());
  }
  return hash;
}

/// The digests of what is left of the epoch.
inline std::vector<std::uint64_t> rest_of(BatchSource& source) {
  std::vector<std::uint64_t> digests;
  while (const auto batch = source.next()) digests.push_back(digest(*batch));
  return digests;
}

/// A one-dimensional tensor of whole numbers, on the host.
inline std::vector<std::int64_t> numbers(const torch::Tensor& value) {
  const torch::Tensor dense = value.to(torch::kInt64).contiguous();
  return {dense.data_ptr<std::int64_t>(), dense.data_ptr<std::int64_t>() + dense.numel()};
}

/// The samples of what is left of the epoch, by "target".
inline std::vector<std::int64_t> order_of(BatchSource& source) {
  std::vector<std::int64_t> order;
  while (const auto batch = source.next()) {
    for (const std::int64_t target : numbers((*batch)["target"])) order.push_back(target);
  }
  return order;
}

/// `size` samples that know their index: "data" of shape (2), "target" a scalar.
inline Batch numbered_rows(std::int64_t size) {
  const torch::Tensor index = torch::arange(size, torch::kInt64);
  return {{"data", torch::stack({index, index * 10}, 1).to(torch::kFloat32)}, {"target", index}};
}

}  // namespace torch_accelerated::testing
