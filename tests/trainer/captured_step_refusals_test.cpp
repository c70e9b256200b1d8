// SPDX-License-Identifier: Apache-2.0
// Steps that can't be captured run as they are, or are refused, with the reason.
#include <utility>

#include "accelerator/device_graph.h"
#include "support/captured_steps.h"

namespace tests::captured_step_refusals_test {
namespace {

using namespace captured;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

// What a run with `options` writes to its log.
std::string log_of(bool capture, const std::vector<ta::Batch>& batches, ta::TrainOptions options,
                   torch::nn::Sequential net) {
  ta::Accelerator accelerator(options_of(capture));
  auto optimizer = nesterov(net);
  CountingTrainer trainer(net, optimizer, accelerator);
  ListSource source(batches, /*sized=*/true);
  testing::internal::CaptureStderr();
  trainer.train(source, std::move(options));
  return testing::internal::GetCapturedStderr();
}

TEST(CapturedSteps, OfManyShapesRunAsTheyAreAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  std::vector<ta::Batch> batches;
  for (std::int64_t rows = 1; rows <= 12; ++rows) {
    batches.push_back(tiny_batch(rows, static_cast<std::uint64_t>(rows)));
  }
  const auto plain = tiny_net();
  EXPECT_THAT(log_of(false, batches, {.num_epochs = 4}, plain), IsEmpty());
  const auto captured = tiny_net();
  EXPECT_THAT(log_of(true, batches, {.num_epochs = 4}, captured),
              AllOf(HasSubstr("capture_graph: some steps run as they are: there are 8 captured "
                              "steps already"),
                    HasSubstr("pad batches to few shapes")));
  EXPECT_EQ(graphs.recorded(), 8);
  EXPECT_TRUE(equal_bits(*captured, *plain));
}

TEST(CapturedSteps, WhoseMomentumMovesRunAsTheyAreAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  const std::vector<ta::Batch> batches(30, tiny_batch(4));
  const ta::TrainOptions options{.num_epochs = 1, .scheduler = ta::one_cycle()};
  const auto plain = tiny_net();
  log_of(false, batches, options, plain);
  const auto captured = tiny_net();
  EXPECT_THAT(log_of(true, batches, options, captured),
              HasSubstr("what they go by has changed several times, such as momenta"));
  EXPECT_EQ(graphs.replayed(), 0);
  EXPECT_TRUE(equal_bits(*captured, *plain));
}

/// Steps its optimizer by itself.
class OwnStep : public CountingTrainer {
 public:
  using CountingTrainer::CountingTrainer;

 protected:
  void optimizer_step(torch::optim::Optimizer& optimizer) override { optimizer.step(); }
};

TEST(CapturedSteps, OfAnOptimizerThatStepsByItselfRunAsTheyAreAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  ta::Accelerator accelerator(options_of(true));
  auto net = tiny_net();
  auto optimizer = adamw(net);
  OwnStep trainer(net, optimizer, accelerator);
  testing::internal::CaptureStderr();
  trainer.train(tiny_batch(40), three_epochs());
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      HasSubstr(
          "an optimizer of this Accelerator hasn't stepped through LibTorch's fused kernels"));
  EXPECT_EQ(graphs.recorded(), 0);
}

/// Reads its loss back in each step.
class Reading : public CountingTrainer {
 public:
  using CountingTrainer::CountingTrainer;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    auto output = CountingTrainer::calculate_train_batch_loss(batch);
    sum_ += output.loss.value().item<double>();
    return output;
  }

 private:
  double sum_ = 0;
};

TEST(CapturedSteps, ThatWaitForTheDeviceAreRefused) {
  const FakeGraphs graphs;
  ta::Accelerator accelerator(options_of(true));
  auto net = tiny_net();
  auto optimizer = adamw(net);
  Reading trainer(net, optimizer, accelerator);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(40), three_epochs()); }),
              AllOf(HasSubstr("capture_graph: the step can't be captured: operation not permitted "
                              "when stream is capturing (aten::_local_scalar_dense)"),
                    HasSubstr("reads nothing back from the device"),
                    HasSubstr("or set capture_graph to false")));
  EXPECT_EQ(graphs.recorded(), 0);
}

TEST(CapturedSteps, AreRefusedByDevicesAndOptionsThatDontAllowThemAllAtOnce) {
  auto& maker = ta::graph_device_maker(c10::kCPU);
  const auto of_library = std::exchange(maker, nullptr);
  const auto message = message_of<ta::ArgumentError>([] {
    const ta::Accelerator accelerator({.device = "cpu",
                                       .mixed_precision = ta::MixedPrecision::kFp16,
                                       .fused_optimizers = false,
                                       .verdicts = ta::Verdicts::kAtOnce,
                                       .capture_graph = true,
                                       .unused_parameters = ta::UnusedParameters::kError});
  });
  maker = of_library;
  for (const char* part : {"capture_graph needs a library that was built with CUDA",
                           "the device is cpu", "MixedPrecision::kFp16", "fused_optimizers = false",
                           "Verdicts::kAtOnce", "UnusedParameters::kError"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(CapturedSteps, AreRefusedBeforeARunThatDoesntAllowThem) {
  const FakeGraphs graphs;
  ta::Accelerator accelerator(options_of(true));
  auto net = tiny_net();
  torch::optim::RMSprop optimizer(net->parameters());
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  auto options = three_epochs();
  options.non_finite = ta::NonFinite::kSkip;
  options.deterministic_shards = 2;
  options.per_device_batch_size = 4;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(40), options); }),
              AllOf(HasSubstr("capture_graph needs optimizers that step through fused kernels"),
                    HasSubstr("NonFinite::kSkip"), HasSubstr("exclude each other")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { accelerator.prepare(optimizer); }),
              HasSubstr("give exactly a torch::optim::SGD, Adam or AdamW"));
}

}  // namespace
}  // namespace tests::captured_step_refusals_test
