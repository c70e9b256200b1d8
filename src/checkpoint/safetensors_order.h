// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "checkpoint/safetensors_header.h"

namespace torch_accelerated {

/// The tensors by rising `key_of(tensor)`; those of one key keep their order.
template <class KeyOf>
std::vector<SafetensorsEntry> sorted_tensors(std::vector<SafetensorsEntry> tensors, KeyOf key_of) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(key_of(tensors[a]), a) < std::pair(key_of(tensors[b]), b);
  });
  std::vector<SafetensorsEntry> sorted;
  sorted.reserve(tensors.size());
  for (std::size_t i : order) sorted.push_back(std::move(tensors[i]));
  return sorted;
}

}  // namespace torch_accelerated
