// SPDX-License-Identifier: Apache-2.0
#include "accelerator/device_graph.h"

namespace torch_accelerated {

GraphDeviceMaker cuda_graph_device_maker() { return nullptr; }

}  // namespace torch_accelerated
