// SPDX-License-Identifier: Apache-2.0
// A Python with safetensors and PyTorch, which TORCH_ACCELERATED_PYTHON may name. tests/run brings
// none: PyTorch's wheel needs gigabytes of CUDA's libraries before it can be imported.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "checkpoint/tensor_file.h"

namespace tests {

inline std::string python() {
  const char* named = std::getenv("TORCH_ACCELERATED_PYTHON");
  return named == nullptr ? "python3" : named;
}

inline bool succeeds(const std::string& command) { return std::system(command.c_str()) == 0; }

/// Whether PyTorch, with the weights that it reads from `weights`, gives for `data` the logits that
/// `net` gives. `net` is Linear, ReLU, Linear, ReLU, Linear. Leaves a file in `folder`.
inline bool python_gives_the_same_logits(const std::filesystem::path& weights,
                                         torch::nn::Sequential net, const torch::Tensor& data,
                                         const std::filesystem::path& folder) {
  const torch::NoGradGuard no_grad;
  const auto expected = folder / (weights.stem().string() + "-expected.safetensors");
  torch_accelerated::write_tensor_file(torch_accelerated::system_io(), expected,
                                       {{"data", data}, {"logits", net->forward(data)}});
  const auto script =
      std::filesystem::path(__FILE__).parent_path().parent_path() / "reference/read_weights.py";
  return succeeds(python() + " " + script.string() + " " + weights.string() + " " +
                  expected.string());
}

/// Of tests that compare with what such a Python reads; they can say nothing without one.
class WithPython : public testing::Test {
 protected:
  void SetUp() override {
    if (succeeds(python() + " -c 'import safetensors, torch' 2>/dev/null")) return;
    GTEST_SKIP() << python() << " has no torch and safetensors; name one that has them in "
                 << "TORCH_ACCELERATED_PYTHON";
  }
};

}  // namespace tests
