// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "checkpoint/tensor_file.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/checkpoint/weights.h"

namespace torch_accelerated::testing {

/// What tests/reference/torch_files.py wrote the state dict of.
inline torch::nn::Sequential mlp(std::uint64_t seed = 1, std::int64_t classes = 2) {
  torch::manual_seed(seed);
  torch::nn::Sequential net(torch::nn::Linear(3, 4), torch::nn::BatchNorm1d(4),
                            torch::nn::Linear(4, classes));
  const torch::NoGradGuard no_grad;
  net->forward(torch::randn({8, 3}));  // BatchNorm's buffers have numbers then
  return net;
}

inline TensorDict tensors_of(const torch::nn::Module& module) {
  TensorDict tensors;
  for (const auto& item : module.named_parameters()) tensors.set(item.key(), item.value());
  for (const auto& item : module.named_buffers()) tensors.set(item.key(), item.value());
  return tensors;
}

inline TensorDict copy_of(const torch::nn::Module& module) {
  TensorDict copies;
  for (const auto& [name, tensor] : tensors_of(module)) copies.set(name, tensor.detach().clone());
  return copies;
}

// The first tensor that isn't what is expected; empty where there is none.
inline std::string difference(const torch::nn::Module& module, const TensorDict& expected) {
  const auto tensors = tensors_of(module);
  if (tensors.size() != expected.size()) return "number of tensors";
  for (const auto& [name, tensor] : tensors) {
    const auto& other = expected[name];
    if (tensor.scalar_type() != other.scalar_type() || !torch::equal(tensor, other)) return name;
  }
  return {};
}

// What is said of a file; the module must be as it was then.
inline std::string refusal(torch::nn::Module& module, const std::filesystem::path& file,
                           const LoadWeightsOptions& options = {}) {
  const auto before = copy_of(module);
  try {
    load_weights(module, file, options);
  } catch (const CheckpointError& error) {
    EXPECT_EQ(difference(module, before), "");
    return error.what();
  }
  return "accepted";
}

/// A folder with the weights of `mlp()` in it.
class WeightsFixture : public ::testing::Test {
 protected:
  WeightsFixture() { save_weights(*net_, file_); }

  // A file of these tensors.
  std::filesystem::path written(const std::string& name, const TensorDict& tensors) const {
    const auto path = folder_.path() / name;
    write_tensor_file(system_io(), path.string(), tensors);
    return path;
  }

  TempDir folder_;
  std::filesystem::path file_ = folder_.path() / "net.safetensors";
  torch::nn::Sequential net_ = mlp();
};

}  // namespace torch_accelerated::testing
