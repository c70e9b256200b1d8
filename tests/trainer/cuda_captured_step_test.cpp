// SPDX-License-Identifier: Apache-2.0
// What captured_step_test.cpp shows with a fake, on a GPU.
#include <c10/cuda/CUDAFunctions.h>
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::cuda_captured_step_test {
namespace {

using c10::cuda::SyncDebugMode;
using testing::AllOf;
using testing::HasSubstr;

struct NoWaits {
  NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(SyncDebugMode::L_ERROR); }
  ~NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(SyncDebugMode::L_DISABLED); }
};

/// Counts how often its steps run; reads its loss back where it is told to.
class CountingTrainer : public ta::Trainer {
 public:
  using Trainer::Trainer;
  int steps = 0;
  bool reads_loss = false;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    ++steps;
    auto output = Trainer::calculate_train_batch_loss(batch);
    if (reads_loss) output.loss.value().item<double>();
    return output;
  }
};

struct Objects {
  Objects(bool capture, ta::MixedPrecision precision)
      : accelerator({.device = "cuda:0", .mixed_precision = precision, .capture_graph = capture}) {
    net->to(torch::kCUDA);
  }

  ta::Accelerator accelerator;
  torch::nn::Sequential net = tiny_net();
  torch::optim::AdamW optimizer{net->parameters(), torch::optim::AdamWOptions(0.01)};
  CountingTrainer trainer{net, torch::nn::MSELoss(), optimizer, ta::default_callbacks(),
                          &accelerator};
};

// Only a build with CUDA has these tests, under the label gpu, and such a build may be made on a
// machine without a GPU, where nothing can be captured; captured_step_test.cpp runs there.
class CudaCapturedSteps : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

TEST_F(CudaCapturedSteps, GiveTheBitsOfPlainSteps) {
  for (const auto precision : {ta::MixedPrecision::kNo, ta::MixedPrecision::kBf16}) {
    for (const std::int64_t accumulation : {1, 3}) {
      const ta::TrainOptions options{.num_epochs = 3,
                                     .per_device_batch_size = 4,
                                     .gradient_accumulation_steps = accumulation,
                                     .clip_gradient_norm = 0.5,
                                     .scheduler = ta::cosine({})};
      Objects plain(false, precision);
      Objects captured(true, precision);
      plain.trainer.train(tiny_batch(4 * 30), options);
      captured.trainer.train(tiny_batch(4 * 30), options);
      plain.net->to(torch::kCPU);
      captured.net->to(torch::kCPU);
      EXPECT_LT(captured.trainer.steps, 20);
      EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
      EXPECT_EQ(captured.trainer.history().values("train_loss"),
                plain.trainer.history().values("train_loss"));
    }
  }
}

TEST_F(CudaCapturedSteps, NeverHaveTheHostWait) {
  Objects run(true, ta::MixedPrecision::kNo);
  std::optional<NoWaits> no_waits;
  run.trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
    if (event.updates == 8) no_waits.emplace();
    if (event.updates == 25) no_waits.reset();
  }));
  run.trainer.train(tiny_batch(4 * 30), {.num_epochs = 1, .per_device_batch_size = 4});
  EXPECT_LT(run.trainer.steps, 8);
}

TEST_F(CudaCapturedSteps, ThatWaitForTheDeviceAreRefused) {
  Objects run(true, ta::MixedPrecision::kNo);
  run.trainer.reads_loss = true;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                run.trainer.train(tiny_batch(40), {.num_epochs = 1, .per_device_batch_size = 4});
              }),
              AllOf(HasSubstr("capture_graph: the step can't be captured: "),
                    HasSubstr("or set capture_graph to false")));
}

}  // namespace
}  // namespace tests::cuda_captured_step_test
