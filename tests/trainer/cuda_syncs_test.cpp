// SPDX-License-Identifier: Apache-2.0
// V14: a steady update on a GPU never has the host wait for it. CUDA's allocator and copies know of
// each wait, and are told here to throw at one.
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include "support/tiny.h"

namespace tests::cuda_syncs_test {
namespace {

using c10::cuda::SyncDebugMode;

struct NoWaits {
  NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(SyncDebugMode::L_ERROR); }
  ~NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(SyncDebugMode::L_DISABLED); }
};

// Between two updates of one epoch, the first ones left out: they agree on what later ones go by.
void train_without_waits(ta::MixedPrecision precision, const ta::TrainOptions& options) {
  ta::Accelerator accelerator({.device = "cuda:0", .mixed_precision = precision});
  auto net = tiny_net();
  net->to(torch::kCUDA);
  torch::optim::AdamW optimizer(net->parameters(), torch::optim::AdamWOptions(0.01));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::default_callbacks(), &accelerator);
  std::optional<NoWaits> no_waits;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
    if (event.updates == 5) no_waits.emplace();
    if (event.updates == 25) no_waits.reset();
  }));
  trainer.train(tiny_batch(4 * 30), options);
  for (const auto& parameter : net->parameters()) {
    EXPECT_TRUE(torch::isfinite(parameter).all().item<bool>());
  }
}

// Only a build with CUDA has these tests, under the label gpu, and such a build may be made on a
// machine without a GPU, where no one can tell what a GPU makes the host wait for.
class CudaUpdates : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

TEST_F(CudaUpdates, NeverHaveTheHostWait) {
  const ta::TrainOptions options{
      .num_epochs = 1, .per_device_batch_size = 4, .scheduler = ta::cosine({})};
  train_without_waits(ta::MixedPrecision::kNo, options);
  train_without_waits(ta::MixedPrecision::kBf16, options);
}

TEST_F(CudaUpdates, NeverHaveTheHostWaitWithClippingAndAccumulation) {
  train_without_waits(ta::MixedPrecision::kNo, {.num_epochs = 1,
                                                .per_device_batch_size = 2,
                                                .gradient_accumulation_steps = 2,
                                                .clip_gradient_norm = 1.0});
}

TEST_F(CudaUpdates, ThatTheHostHearsOfAtOnceDoHaveItWait) {
  EXPECT_ANY_THROW(train_without_waits(
      ta::MixedPrecision::kNo,
      {.num_epochs = 1, .per_device_batch_size = 4, .non_finite = ta::NonFinite::kSkip}));
}

}  // namespace
}  // namespace tests::cuda_syncs_test
