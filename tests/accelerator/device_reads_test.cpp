// SPDX-License-Identifier: Apache-2.0
// A read of the device's numbers in each micro-batch makes the host wait for it (D19). Tensors of
// the meta device have no numbers: whoever asks for one of them is told so.
#include <gtest/gtest.h>

#include "accelerator/gradient_window.h"
#include "support/tiny.h"

namespace tests::device_reads_test {
namespace {

struct OnMeta {
  torch::Tensor weight =
      torch::zeros({3}, torch::TensorOptions().device(torch::kMeta).requires_grad(true));
  torch::Tensor loss = weight.sum();
};

TEST(MicroBatch, ReadsNothingBackFromTheDevice) {
  ta::GradientWindow window;
  for (int i = 0; i < 3; ++i) {
    const OnMeta micro_batch;
    window.backward(ta::Mean(micro_batch.loss), {.rows = 4, .window_rows = 16, .micro_batches = 4},
                    std::nullopt, /*scaler=*/nullptr);
  }
  EXPECT_TRUE(window.has_backward());
  EXPECT_ANY_THROW(window.sums());  // the update's one read, which shows that one would be noticed
}

}  // namespace
}  // namespace tests::device_reads_test
