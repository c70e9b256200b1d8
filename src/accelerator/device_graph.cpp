// SPDX-License-Identifier: Apache-2.0
#include "accelerator/device_graph.h"

#include <array>

namespace torch_accelerated {

GraphDeviceMaker& graph_device_maker(c10::DeviceType type) {
  static auto makers = [] {
    std::array<GraphDeviceMaker, c10::COMPILE_TIME_MAX_DEVICE_TYPES> none{};
    none[static_cast<std::size_t>(c10::DeviceType::CUDA)] = cuda_graph_device_maker();
    none[static_cast<std::size_t>(c10::DeviceType::CPU)] = host_graph_device_maker();
    return none;
  }();
  return makers[static_cast<std::size_t>(type)];
}

}  // namespace torch_accelerated
