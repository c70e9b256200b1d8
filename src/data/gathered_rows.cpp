// SPDX-License-Identifier: Apache-2.0
#include "data/gathered_rows.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstring>

namespace torch_accelerated {
namespace {

constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kPrefetchedBytes = 512;    // of a row; the rest the processor sees coming
constexpr std::int64_t kBytesOfThread = 1 << 18;  // for which starting another thread pays

torch::Tensor on_device(const torch::Tensor& places, c10::Device device) {
  // From pinned memory the copy doesn't wait for what the device still has to do.
  if (device.is_cuda()) return places.pin_memory().to(device, /*non_blocking=*/true);
  return places.to(device);
}

torch::Tensor selected_rows(const torch::Tensor& value, std::span<const std::int64_t> indices) {
  // The tensor borrows the indices and is only read.
  const auto places = torch::from_blob(const_cast<std::int64_t*>(indices.data()),
                                       static_cast<std::int64_t>(indices.size()), torch::kInt64);
  return value.index_select(0, on_device(places, value.device()));
}

void prefetch(const char* row, std::int64_t bytes) {
  for (std::int64_t i = 0; i < std::min(bytes, kPrefetchedBytes); i += kCacheLine) {
    __builtin_prefetch(row + i);
  }
}

}  // namespace

torch::Tensor gathered_rows(const torch::Tensor& value, std::span<const std::int64_t> indices) {
  const bool plain = value.is_cpu() && value.layout() == torch::kStrided && value.is_contiguous() &&
                     !value.is_quantized() && value.numel() > 0;
  if (!plain) return selected_rows(value, indices);
  auto shape = value.sizes().vec();
  const auto bytes = static_cast<std::int64_t>(value.nbytes()) / shape.front();
  const auto count = static_cast<std::int64_t>(indices.size());
  shape.front() = count;
  auto rows = torch::empty(shape, value.options());
  const auto* from = static_cast<const char*>(value.const_data_ptr());
  auto* to = static_cast<char*>(rows.mutable_data_ptr());
  const auto grain = std::max<std::int64_t>(1, kBytesOfThread / bytes);
  at::parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      // The rows lie anywhere: while one is copied, the next one's memory is on its way.
      if (i + 1 < end) prefetch(from + indices[static_cast<std::size_t>(i + 1)] * bytes, bytes);
      const auto index = indices[static_cast<std::size_t>(i)];
      std::memcpy(to + i * bytes, from + index * bytes, static_cast<std::size_t>(bytes));
    }
  });
  return rows;
}

}  // namespace torch_accelerated
