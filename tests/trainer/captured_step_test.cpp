// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded and replayed give what they give when they run as they are. On the CPU a
// fake records; rates are powers of two, which float32, in which recorded steps read them, has.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "support/fake_graphs.h"
#include "support/fake_nccl.h"
#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::captured_step_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kRate = 0.015625;

ta::AcceleratorOptions options_of(bool capture) {
  return {.device = "cpu", .verdicts = ta::Verdicts::kLate, .capture_graph = capture};
}

torch::nn::Sequential net_with_norm_and_dropout() {
  const ta::SeedScope scope(3);
  return torch::nn::Sequential(torch::nn::Linear(4, 6), torch::nn::BatchNorm1d(6),
                               torch::nn::ReLU(), torch::nn::Dropout(0.25),
                               torch::nn::Linear(6, 3));
}

torch::optim::AdamW adamw(const torch::nn::Sequential& net) {
  return torch::optim::AdamW(net->parameters(),
                             torch::optim::AdamWOptions(kRate).weight_decay(0.1).amsgrad(true));
}

torch::optim::SGD nesterov(const torch::nn::Sequential& net) {
  return torch::optim::SGD(net->parameters(),
                           torch::optim::SGDOptions(kRate).momentum(0.9).nesterov(true));
}

std::vector<std::int64_t> steps_of(const torch::optim::Optimizer& optimizer) {
  std::vector<std::int64_t> steps;
  for (const auto& [key, state] : optimizer.state()) {
    if (const auto* of_adamw = dynamic_cast<const torch::optim::AdamWParamState*>(state.get())) {
      steps.push_back(of_adamw->step());
    }
  }
  std::sort(steps.begin(), steps.end());  // the state's order is that of addresses
  return steps;
}

/// Counts how often its steps run; the loss is weighted where the batch has weights.
class CountingTrainer : public ta::Trainer {
 public:
  CountingTrainer(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
                  ta::Accelerator& accelerator)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator),
        net_(net) {}

  int steps = 0;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    ++steps;
    auto output = Trainer::calculate_train_batch_loss(batch);
    output.scalars.emplace_back("size", ta::Mean(output.loss.value().detach().abs()));
    if (!batch.contains("weight")) return output;
    const auto each = (net_->forward(batch["data"]) - batch["target"]).square().mean(1);
    output.loss = ta::Mean((each * batch["weight"]).sum(), batch["weight"].sum());
    return output;
  }

 private:
  torch::nn::Sequential net_;
};

struct Outcome {
  torch::nn::Sequential net = nullptr;
  std::vector<std::int64_t> steps_made = {};
  std::vector<double> losses = {};  // of each micro-batch, as events have them
  std::vector<std::vector<double>> history = {};
  double last_loss = 0;
  int step_calls = 0;
};

using MakeNet = torch::nn::Sequential (*)();
torch::nn::Sequential plain_net() { return tiny_net(); }

template <class MakeOptimizer>
Outcome outcome_of(bool capture, const ta::Batch& rows, ta::TrainOptions options,
                   const MakeOptimizer& make_optimizer, MakeNet make_net = plain_net,
                   const AtStepEnd::Action& at_step_end = {}) {
  torch::manual_seed(11);
  ta::Accelerator accelerator(options_of(capture));
  Outcome outcome{.net = make_net()};
  auto optimizer = make_optimizer(outcome.net);
  CountingTrainer trainer(outcome.net, optimizer, accelerator);
  std::vector<ta::Mean> losses;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
    losses.push_back(event.output.loss);  // kept over later replays
    if (at_step_end) at_step_end(of, event);
  }));
  trainer.train(rows, std::move(options));
  for (const auto& loss : losses) outcome.losses.push_back(loss.value().item<double>());
  outcome.steps_made = steps_of(optimizer);
  for (const char* name : {"train_loss", "train_size", "eval_loss", "learning_rate",
                           "gradient_norm", "skipped_updates"}) {
    outcome.history.push_back(trainer.history().values(name));
  }
  outcome.last_loss = trainer.progress().loss;
  outcome.step_calls = trainer.steps;
  return outcome;
}

void expect_equal(const Outcome& captured, const Outcome& plain) {
  EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
  const auto buffers = captured.net->buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_TRUE(torch::equal(buffers[i], plain.net->buffers()[i]));
  }
  EXPECT_EQ(captured.steps_made, plain.steps_made);
  EXPECT_EQ(captured.losses, plain.losses);
  EXPECT_EQ(captured.history, plain.history);
  EXPECT_EQ(captured.last_loss, plain.last_loss);
}

template <class MakeOptimizer>
void expect_bits_of_plain_steps(const ta::Batch& rows, const ta::TrainOptions& options,
                                const MakeOptimizer& make_optimizer, MakeNet make_net = plain_net) {
  const FakeGraphs graphs;
  const auto plain = outcome_of(false, rows, options, make_optimizer, make_net);
  ASSERT_EQ(graphs.recorded(), 0);
  const auto captured = outcome_of(true, rows, options, make_optimizer, make_net);
  EXPECT_GT(graphs.recorded(), 0);
  EXPECT_GT(graphs.replayed(), plain.step_calls / 2);
  EXPECT_EQ(captured.step_calls + graphs.replayed() - graphs.recorded(), plain.step_calls);
  expect_equal(captured, plain);
}

ta::Batch weighted(std::int64_t rows) {
  auto batch = tiny_batch(rows);
  batch.set("weight", torch::arange(rows, torch::kFloat32).remainder(5));
  return batch;
}

ta::TrainOptions three_epochs() {
  return {.num_epochs = 3,
          .per_device_batch_size = 4,
          .scheduler = ta::step_decay({.every_updates = 3, .factor = 0.5})};
}

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
  const FakeGraphs graphs;
  const auto stop_at_12 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 12) trainer.request_stop("the test wants it");
  };
  const auto plain =
      outcome_of(false, tiny_batch(120), three_epochs(), adamw, plain_net, stop_at_12);
  const auto captured =
      outcome_of(true, tiny_batch(120), three_epochs(), adamw, plain_net, stop_at_12);
  EXPECT_GT(graphs.replayed(), 8);
  EXPECT_LT(captured.losses.size(), 16U);
  expect_equal(captured, plain);
}

TEST(CapturedSteps, AreRecordedAnewWhenOtherParametersAreTrained) {
  const FakeGraphs graphs;
  const auto freeze_at_9 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates != 9) return;
    for (auto& parameter : trainer.model().module().children().front()->parameters()) {
      parameter.requires_grad_(false);
    }
  };
  const auto plain =
      outcome_of(false, tiny_batch(80), three_epochs(), nesterov, plain_net, freeze_at_9);
  const auto captured =
      outcome_of(true, tiny_batch(80), three_epochs(), nesterov, plain_net, freeze_at_9);
  EXPECT_EQ(graphs.recorded(), 2);
  expect_equal(captured, plain);
}

TEST(CapturedSteps, MayHaveFrozenParametersInTheirOptimizer) {
  const FakeGraphs graphs;
  const auto freeze_at_9 = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    auto first = trainer.model().module().children().front()->parameters();
    if (event.updates == 9 || event.updates == 21) {
      for (auto& parameter : first) parameter.requires_grad_(event.updates == 21);
    }
  };
  const auto plain =
      outcome_of(false, tiny_batch(160), three_epochs(), adamw, plain_net, freeze_at_9);
  const auto captured =
      outcome_of(true, tiny_batch(160), three_epochs(), adamw, plain_net, freeze_at_9);
  EXPECT_EQ(graphs.recorded(), 3);
  EXPECT_GT(graphs.replayed(), 100);
  expect_equal(captured, plain);
}

TEST(CapturedSteps, OfAccumulatedMicroBatchesAreThree) {
  const FakeGraphs graphs;
  auto options = three_epochs();
  options.gradient_accumulation_steps = 10;
  const auto plain = outcome_of(false, tiny_batch(160), options, adamw);
  const auto captured = outcome_of(true, tiny_batch(160), options, adamw);
  EXPECT_EQ(graphs.recorded(), 3);
  EXPECT_GT(graphs.replayed(), 80);
  expect_equal(captured, plain);
}

TEST(CapturedSteps, SeeModesAndOptionsThatACallbackChanges) {
  const FakeGraphs graphs;
  const auto change = [](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 9) trainer.model().module().eval();
    if (event.updates != 17) return;
    auto& options = trainer.optimizer().param_groups().front().options();
    static_cast<torch::optim::SGDOptions&>(options).weight_decay(0.25);
  };
  const auto plain = outcome_of(false, tiny_batch(80), three_epochs(), nesterov,
                                net_with_norm_and_dropout, change);
  const auto captured =
      outcome_of(true, tiny_batch(80), three_epochs(), nesterov, net_with_norm_and_dropout, change);
  EXPECT_EQ(graphs.recorded(), 3);
  expect_equal(captured, plain);
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

// What two ranks, each with a thread and an NCCL of its own, make of one dataset.
std::vector<torch::nn::Sequential> trained_by_two_ranks(bool capture,
                                                        const ta::TrainOptions& options,
                                                        std::int64_t stop_at) {
  std::vector<torch::nn::Sequential> nets{tiny_net(), tiny_net()};
  const auto rows = tiny_batch(73);  // one rank has none of the last batch
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    auto of_rank = options_of(capture);
    of_rank.overlap = ta::Overlap::kOff;
    ta::World world{
        .gradients = over_fake(control, nccl), .control = control.duplicate(), .is_callers = true};
    ta::Accelerator accelerator(std::move(world), of_rank);
    auto& net = nets[static_cast<std::size_t>(control.rank())];
    auto optimizer = adamw(net);
    CountingTrainer trainer(net, optimizer, accelerator);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
      if (event.updates == stop_at && control.rank() == 1) of.request_stop("the test wants it");
    }));
    EXPECT_EQ(trainer.train(rows, options).was_stopped(), stop_at > 0);
  });
  EXPECT_THAT(errors, testing::Each(IsEmpty()));
  return nets;
}

TEST(CapturedSteps, IncludeWhatRanksAddUpByNccl) {
  for (const std::int64_t accumulation : {1, 3}) {
    for (const std::int64_t stop_at : {-1, 9}) {
      const FakeGraphs graphs;
      auto options = three_epochs();
      options.per_device_batch_size = 2;
      options.gradient_accumulation_steps = accumulation;
      options.clip_gradient_norm = 0.1;
      const auto plain = trained_by_two_ranks(false, options, stop_at);
      EXPECT_EQ(graphs.recorded(), 0);
      const auto captured = trained_by_two_ranks(true, options, stop_at);
      EXPECT_GE(graphs.recorded(), 2 * accumulation);
      EXPECT_GT(graphs.replayed(), 8);
      EXPECT_TRUE(equal_bits(*plain[0], *plain[1]));
      EXPECT_TRUE(equal_bits(*captured[0], *plain[0]));
      EXPECT_TRUE(equal_bits(*captured[1], *plain[0]));
    }
  }
}

/// Has a parameter that no loss reaches.
struct WithUnusedImpl : torch::nn::Module {
  WithUnusedImpl()
      : net(register_module("net", tiny_net())),
        unused(register_parameter("unused", torch::ones({3}))) {}
  torch::Tensor forward(const torch::Tensor& data) { return net->forward(data); }

  torch::nn::Sequential net;
  torch::Tensor unused;
};
TORCH_MODULE(WithUnused);

TEST(CapturedSteps, WithoutSomeGradientsRunAsTheyAreOnSeveralRanksAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  std::vector<WithUnused> nets{WithUnused(), WithUnused()};
  testing::internal::CaptureStderr();
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    auto options = options_of(true);
    options.overlap = ta::Overlap::kOff;
    ta::World world{
        .gradients = over_fake(control, nccl), .control = control.duplicate(), .is_callers = true};
    ta::Accelerator accelerator(std::move(world), options);
    auto& net = nets[static_cast<std::size_t>(control.rank())];
    torch::optim::SGD optimizer(net->parameters(), kRate);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.train(tiny_batch(40), three_epochs());
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("a parameter got no gradient on this rank"));
  EXPECT_THAT(errors, testing::Each(IsEmpty()));
  EXPECT_EQ(graphs.recorded(), 0);
}

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
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("an optimizer didn't step through its fused kernels"));
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
  const auto message = message_of<ta::ArgumentError>([] {
    const ta::Accelerator accelerator({.device = "cpu",
                                       .mixed_precision = ta::MixedPrecision::kFp16,
                                       .fused_optimizers = false,
                                       .verdicts = ta::Verdicts::kAtOnce,
                                       .capture_graph = true,
                                       .unused_parameters = ta::UnusedParameters::kError});
  });
  for (const char* part :
       {"capture_graph needs CUDA", "the device is cpu", "MixedPrecision::kFp16",
        "fused_optimizers = false", "Verdicts::kAtOnce", "UnusedParameters::kError"}) {
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
}  // namespace tests::captured_step_test
