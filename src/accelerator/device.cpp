// SPDX-License-Identifier: Apache-2.0
#include "accelerator/device.h"

#include <torch/torch.h>

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

}  // namespace

c10::Device resolve_device(const std::string& name) {
  const int gpus = torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
  if (name.empty()) return gpus > 0 ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
  const auto device = parsed(name);
  if (device.is_cpu()) return c10::Device(c10::kCPU);
  if (!device.is_cuda()) {
    throw ArgumentError(
        concat("Accelerator: device '", name, "' is not supported; use cpu or cuda"));
  }
  const c10::DeviceIndex index = device.has_index() ? device.index() : c10::DeviceIndex{0};
  if (index >= gpus) {
    throw ArgumentError(concat("Accelerator: device '", name, "' is not there, this program sees ",
                               gpus,
                               " CUDA devices; use cpu, or a CUDA build of LibTorch with a GPU"));
  }
  return {c10::kCUDA, index};
}

}  // namespace torch_accelerated
