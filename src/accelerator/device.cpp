// SPDX-License-Identifier: Apache-2.0
#include "accelerator/device.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdlib>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

c10::Device parsed(const std::string& name) {
  try {
    return c10::Device(name);
  } catch (const std::exception&) {
    throw ArgumentError(
        concat("Accelerator: unknown device '", name, "'; use cpu, cuda or cuda:<index>"));
  }
}

c10::Device gpu_of(const World& world, int gpus, bool share) {
  // A launcher that gives each rank one GPU to see.
  if (gpus == 1 && world.local_size == 1) return {c10::kCUDA, 0};
  if (gpus == 1 && std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return {c10::kCUDA, 0};
  if (world.local_rank < gpus && world.local_size <= gpus) {
    return {c10::kCUDA, static_cast<c10::DeviceIndex>(world.local_rank)};
  }
  if (share) return {c10::kCUDA, static_cast<c10::DeviceIndex>(world.local_rank % gpus)};
  throw ArgumentError(concat("Accelerator: ", world.local_size, " ranks on host ", world.host,
                             " and ", gpus,
                             " GPUs; start as many ranks as there are GPUs, set share_devices, or "
                             "ask for device \"cpu\""));
}

}  // namespace

c10::Device resolve_device(const std::string& name, const World& world, bool share) {
  const int gpus = torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
  return resolve_device(name, world, share, gpus);
}

c10::Device resolve_device(const std::string& name, const World& world, bool share, int gpus) {
  if (name.empty()) return gpus > 0 ? gpu_of(world, gpus, share) : c10::Device(c10::kCPU);
  const auto device = parsed(name);
  if (device.is_cpu()) return c10::Device(c10::kCPU);
  if (!device.is_cuda()) {
    throw ArgumentError(
        concat("Accelerator: device '", name, "' is not supported; use cpu or cuda"));
  }
  if (!device.has_index() && gpus > 0) return gpu_of(world, gpus, share);
  const c10::DeviceIndex index = device.has_index() ? device.index() : c10::DeviceIndex{0};
  if (index >= gpus) {
    throw ArgumentError(concat("Accelerator: device '", name, "' is not there, this program sees ",
                               gpus,
                               " CUDA devices; use cpu, or a CUDA build of LibTorch with a GPU"));
  }
  return {c10::kCUDA, index};
}

std::optional<double> peak_device_bytes(c10::Device device) {
  if (device.is_cpu()) return std::nullopt;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return static_cast<double>(stats.allocated_bytes.front().peak);
}

void reset_peak_device_bytes(c10::Device device) {
  if (device.is_cpu()) return;
  c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

void check_devices(c10::Device device, const World& world) {
  // What a rank sees is a part of which GPU its index means.
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const auto places = world.control->all_gather(
      concat(device, " on host ", world.host, ", CUDA_VISIBLE_DEVICES=", visible ? visible : ""));
  for (std::size_t rank = 1; rank < places.size(); ++rank) {
    const auto end = places.begin() + static_cast<std::ptrdiff_t>(rank);
    const auto other = std::find(places.begin(), end, places[rank]);
    if (other == end) continue;
    ArgumentError error(concat("Accelerator: ranks ", other - places.begin(), " and ", rank,
                               " both have ", places[rank],
                               "; give each a GPU of its own, or set share_devices"));
    error.set_on_all_ranks();
    throw error;
  }
}

}  // namespace torch_accelerated
