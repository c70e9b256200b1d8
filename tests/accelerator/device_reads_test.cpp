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

// A window whose verdict is late is closed without the host, also where the weights of its losses
// have to be divided out.
TEST(LateVerdicts, AreMadeWithoutReadingFromTheDevice) {
  const OnMeta parameters;
  torch::optim::SGD optimizer({parameters.weight}, 0.1);
  for (const bool weighted : {false, true}) {
    ta::GradientWindow window;
    ta::State known;
    if (weighted) known.set("scale", 2.0);
    window.expected().load_state(known);
    for (int i = 0; i < 3; ++i) {
      const auto loss = parameters.weight.sum();
      window.backward(weighted ? ta::Mean(loss, parameters.weight.detach().sum()) : ta::Mean(loss),
                      {.rows = 4, .window_rows = 12, .micro_batches = 3}, std::nullopt,
                      /*scaler=*/nullptr);
    }
    const auto sums = window.sums_on(torch::kMeta);
    EXPECT_TRUE(sums.is_meta());
    window.close(sums, optimizer);
    EXPECT_ANY_THROW(window.sums());
  }
}

}  // namespace
}  // namespace tests::device_reads_test
