// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <vector>

namespace tests {

using Tensors = std::vector<torch::Tensor>;

inline const c10::Device kDevice(c10::kCUDA, 0);

/// Tests that want a GPU.
class CudaCommunicator : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

/// `numel` ones, after some milliseconds in which the current stream is busy, so that what doesn't
/// wait for it is too early.
inline torch::Tensor late_ones(std::int64_t numel, torch::Dtype dtype = torch::kFloat32) {
  auto work = torch::randn({4096, 4096}, kDevice);
  for (int i = 0; i < 8; ++i) work = work.mm(work) * 1e-3;
  return ((work.flatten().slice(0, 0, 1) * 0).nan_to_num(0, 0, 0) + torch::ones({numel}, kDevice))
      .to(dtype);
}

}  // namespace tests
