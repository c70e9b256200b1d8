// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>
#include <torch_accelerated/checkpoint/weights.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace ta = torch_accelerated;

int main() {
  torch::nn::Linear saved(3, 2);
  torch::nn::Linear loaded(3, 2);
  ta::save_weights(*saved, "weights.safetensors");
  const auto report = ta::load_weights(*loaded, "weights.safetensors");
  std::printf("%s\n", report.text().c_str());
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("libmpi") != std::string::npos || line.find("libnccl") != std::string::npos) {
      std::printf("it has loaded %s\n", line.c_str());
      return 1;
    }
  }
  return torch::equal(saved->weight, loaded->weight) && report.is_complete() ? 0 : 1;
}
