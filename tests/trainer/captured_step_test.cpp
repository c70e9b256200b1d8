// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded and replayed give what they give when they run as they are.
#include <cmath>
#include <limits>

#include "support/captured_steps.h"
#include "support/temp_dir.h"

namespace tests::captured_step_test {
namespace {

using namespace captured;

TEST(CapturedSteps, GiveTheBitsOfPlainSteps) {
  expect_bits_of_plain_steps(tiny_batch(37), three_epochs(), adamw);
  expect_bits_of_plain_steps(tiny_batch(37), three_epochs(), nesterov);
}

TEST(CapturedSteps, GiveTheBitsWithAccumulationAndClipping) {
  auto options = three_epochs();
  options.gradient_accumulation_steps = 3;
  options.clip_gradient_norm = 0.05;
  options.clip_gradient_value = 0.01;
  options.eval_dataset = tiny_batch(9, 2);
  options.num_epochs = 6;
  expect_bits_of_plain_steps(tiny_batch(64), options, adamw);
}

TEST(CapturedSteps, GiveTheBitsOfLossesWithWeights) {
  auto options = three_epochs();
  options.gradient_accumulation_steps = 2;
  options.num_epochs = 6;
  expect_bits_of_plain_steps(weighted(37), options, adamw);
}

TEST(CapturedSteps, GiveTheBitsWithRunningStatisticsAndDropout) {
  expect_bits_of_plain_steps(tiny_batch(40), three_epochs(), nesterov, net_with_norm_and_dropout);
}

TEST(CapturedSteps, FollowRatesThatAreNewInEachUpdate) {
  const FakeGraphs graphs;
  auto options = three_epochs();
  options.scheduler = ta::cosine({});
  const auto plain = outcome_of(false, tiny_batch(40), options, adamw);
  const auto captured = outcome_of(true, tiny_batch(40), options, adamw);
  EXPECT_GT(graphs.replayed(), 20);
  // float32 has the rates only to 6e-8.
  EXPECT_LT(relative_difference(*captured.net, *plain.net), 1e-6);
}

TEST(CapturedSteps, KeepAnUpdateThatIsNotFiniteFromTheWeights) {
  const FakeGraphs graphs;
  auto rows = tiny_batch(64);
  rows["data"][4 * 9][0] = std::numeric_limits<float>::quiet_NaN();
  auto options = three_epochs();
  options.train_loader.shuffle = false;
  options.non_finite = ta::NonFinite::kStop;
  ta::set_log_level(ta::LogLevel::kOff);
  const auto plain = outcome_of(false, rows, options, adamw);
  const auto captured = outcome_of(true, rows, options, adamw);
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_GT(graphs.replayed(), 5);
  ASSERT_EQ(captured.losses.size(), plain.losses.size());
  EXPECT_TRUE(std::isnan(captured.losses[9]));
  EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
  EXPECT_EQ(captured.steps_made, plain.steps_made);
}

TEST(CapturedSteps, HearAStopThatIsAskedForBetweenReplays) {
  const auto stop_at_12 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 12) trainer.request_stop("the test wants it");
  };
  const auto graphs =
      expect_bits_of_plain_steps(tiny_batch(120), three_epochs(), adamw, plain_net, stop_at_12);
  EXPECT_GT(graphs.replayed, 8);
  EXPECT_LT(graphs.replayed, 16);
}

TEST(CapturedSteps, AreRecordedAnewWhenOtherParametersAreTrained) {
  const auto freeze_at_9 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates != 9) return;
    for (auto& parameter : trainer.model().module().children().front()->parameters()) {
      parameter.requires_grad_(false);
    }
  };
  const auto graphs =
      expect_bits_of_plain_steps(tiny_batch(80), three_epochs(), nesterov, plain_net, freeze_at_9);
  EXPECT_EQ(graphs.recorded, 2);
}

TEST(CapturedSteps, MayHaveFrozenParametersInTheirOptimizer) {
  const auto freeze_at_9 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    auto first = trainer.model().module().children().front()->parameters();
    if (event.updates == 9 || event.updates == 21) {
      for (auto& parameter : first) parameter.requires_grad_(event.updates == 21);
    }
  };
  const auto graphs =
      expect_bits_of_plain_steps(tiny_batch(160), three_epochs(), adamw, plain_net, freeze_at_9);
  EXPECT_EQ(graphs.recorded, 3);
  EXPECT_GT(graphs.replayed, 100);
}

TEST(CapturedSteps, OfAccumulatedMicroBatchesAreThree) {
  auto options = three_epochs();
  options.gradient_accumulation_steps = 10;
  const auto graphs = expect_bits_of_plain_steps(tiny_batch(160), options, adamw);
  EXPECT_EQ(graphs.recorded, 3);
  EXPECT_GT(graphs.replayed, 80);
}

TEST(CapturedSteps, SeeModesAndOptionsThatACallbackChanges) {
  const auto change = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 9) trainer.model().module().eval();
    if (event.updates != 17) return;
    auto& options = trainer.optimizer().param_groups().front().options();
    static_cast<torch::optim::SGDOptions&>(options).weight_decay(0.25);
  };
  const auto graphs = expect_bits_of_plain_steps(tiny_batch(80), three_epochs(), nesterov,
                                                 net_with_norm_and_dropout, change);
  EXPECT_EQ(graphs.recorded, 3);
}

TEST(CapturedSteps, GoOnFromACheckpoint) {
  const FakeGraphs graphs;
  const torch_accelerated::testing::TempDir folder;
  auto options = three_epochs();
  const auto whole = outcome_of(true, tiny_batch(40), options, adamw);
  options.checkpoints.directory = folder.path() / "checkpoints";
  const auto save_and_stop = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates != 14) return;
    trainer.save_checkpoint();
    trainer.request_stop("the test wants it");
  };
  outcome_of(true, tiny_batch(40), options, adamw, plain_net, save_and_stop);
  options.resume_from = ta::latest_checkpoint(options.checkpoints.directory);
  const auto resumed = outcome_of(true, tiny_batch(40), options, adamw);
  EXPECT_TRUE(equal_bits(*resumed.net, *whole.net));
  EXPECT_EQ(resumed.steps_made, whole.steps_made);
}

/// Two networks against each other, each with an optimizer of its own.
class TwoOptimizers : public ta::Trainer {
 public:
  TwoOptimizers(torch::nn::Sequential net, torch::nn::Sequential other,
                torch::optim::Optimizer& optimizer, torch::optim::Optimizer& of_other,
                ta::Accelerator& accelerator)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator),
        net_(net),
        other_(other),
        of_other_(of_other) {
    register_module("other", other);
    add_optimizer("of_other", of_other);
  }

 protected:
  ta::StepOutput train_step(const ta::Batch& batch) override {
    const auto made = net_->forward(batch["data"]);
    const auto against = (other_->forward(batch["data"]) - made.detach()).square().mean();
    optimize(against, of_other_);
    const auto loss = (made - batch["target"]).square().mean() +
                      (other_->forward(batch["data"]).detach() - made).square().mean();
    optimize(loss, optimizer());
    return {loss, {}, {{"against", against}}};
  }

 private:
  torch::nn::Sequential net_;
  torch::nn::Sequential other_;
  torch::optim::Optimizer& of_other_;
};

TEST(CapturedSteps, MayStepSeveralOptimizers) {
  const FakeGraphs graphs;
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator(options_of(capture));
    auto net = tiny_net();
    auto other = tiny_net(8);
    auto optimizer = adamw(net);
    auto of_other = nesterov(other);
    TwoOptimizers trainer(net, other, optimizer, of_other, accelerator);
    auto options = three_epochs();
    options.gradient_accumulation_steps = 2;
    trainer.train(tiny_batch(64), options);
    nets.insert(nets.end(), {net, other});
  }
  EXPECT_GT(graphs.replayed(), 30);
  EXPECT_TRUE(equal_bits(*nets[0], *nets[2]));
  EXPECT_TRUE(equal_bits(*nets[1], *nets[3]));
}

TEST(CapturedSteps, MayBeInBf16) {
  const FakeGraphs graphs;
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    auto options = options_of(capture);
    options.mixed_precision = ta::MixedPrecision::kBf16;
    ta::Accelerator accelerator(options);
    nets.push_back(tiny_net());
    auto optimizer = adamw(nets.back());
    CountingTrainer trainer(nets.back(), optimizer, accelerator);
    trainer.train(tiny_batch(40), three_epochs());
  }
  EXPECT_GT(graphs.replayed(), 20);
  EXPECT_TRUE(equal_bits(*nets[0], *nets[1]));
}

TEST(CapturedSteps, BelongToAProgramsOwnLoopToo) {
  const FakeGraphs graphs;
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator(options_of(capture));
    nets.push_back(tiny_net());
    auto optimizer = adamw(nets.back());
    CountingTrainer trainer(nets.back(), optimizer, accelerator);
    trainer.start({.gradient_accumulation_steps = 2});
    for (std::uint64_t i = 0; i < 21; ++i) trainer.step(tiny_batch(4, i));
    trainer.finish();
  }
  EXPECT_GT(graphs.replayed(), 12);
  EXPECT_TRUE(equal_bits(*nets[0], *nets[1]));
}

}  // namespace
}  // namespace tests::captured_step_test
