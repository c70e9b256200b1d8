// SPDX-License-Identifier: Apache-2.0
#include "accelerator/random_state.h"

#include <ATen/Context.h>
#include <torch/torch.h>

#include <mutex>

namespace torch_accelerated {

std::vector<at::Generator> default_generators() {
  std::vector<at::Generator> generators{at::globalContext().defaultGenerator(c10::kCPU)};
  if (!torch::cuda::is_available()) return generators;
  const auto gpus = static_cast<c10::DeviceIndex>(torch::cuda::device_count());
  for (c10::DeviceIndex i = 0; i < gpus; ++i) {
    generators.push_back(at::globalContext().defaultGenerator({c10::kCUDA, i}));
  }
  return generators;
}

TensorDict random_states() {
  TensorDict states;
  for (auto& generator : default_generators()) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.set(generator.device().str(), generator.get_state());
  }
  return states;
}

void set_random_states(const TensorDict& states) {
  for (auto& generator : default_generators()) {
    const auto device = generator.device().str();
    if (!states.contains(device)) continue;
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(states[device]);
  }
}

}  // namespace torch_accelerated
