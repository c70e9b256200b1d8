// SPDX-License-Identifier: Apache-2.0
// Verdicts::kLate is what a GPU does by default. On the CPU the same path takes the same numbers,
// so that the run that hears at once is its oracle.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::late_verdict_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kAtOnce = ta::Verdicts::kAtOnce;
constexpr auto kLate = ta::Verdicts::kLate;

torch::optim::AdamW adamw(const torch::nn::Sequential& net) {
  return torch::optim::AdamW(net->parameters(),
                             torch::optim::AdamWOptions(0.01).weight_decay(0.1).amsgrad(true));
}

struct Objects {
  explicit Objects(ta::Verdicts verdicts) : accelerator({.device = "cpu", .verdicts = verdicts}) {}
  ta::Accelerator accelerator;
  torch::nn::Sequential net = tiny_net();
  torch::optim::AdamW optimizer = adamw(net);
};

// Losses weighted by a column of the batch, as a model's tokens are.
ta::Mean weighted_loss(torch::nn::Sequential& net, const ta::Batch& batch) {
  const auto each = (net->forward(batch["data"]) - batch["target"]).square().mean(1);
  return ta::Mean((each * batch["weight"]).sum() / batch["weight"].sum().clamp_min(1),
                  batch["weight"].sum());
}

// Multiplies the loss of some updates, which the test chooses.
class WithFactor : public ta::Trainer {
 public:
  using Factor = std::function<double(std::int64_t update)>;
  WithFactor(Objects& run, Factor factor)
      : Trainer(run.net, torch::nn::MSELoss(), run.optimizer, ta::CallbackList(), &run.accelerator),
        net_(run.net),
        factor_(std::move(factor)) {}

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    auto output = Trainer::calculate_train_batch_loss(batch);
    if (batch.contains("weight")) output.loss = weighted_loss(net_, batch);
    const double factor = factor_(progress().update);
    if (factor != 1) output.loss = ta::Mean(output.loss.value() * factor);
    return output;
  }

 private:
  torch::nn::Sequential net_;
  Factor factor_;
};

double always_one(std::int64_t) { return 1; }

WithFactor::Factor nan_at(std::int64_t update) {
  return [update](std::int64_t at) { return at == update ? std::nan("") : 1.0; };
}

std::vector<std::int64_t> steps_of(const torch::optim::AdamW& optimizer) {
  std::vector<std::int64_t> steps;
  for (const auto& [key, state] : optimizer.state()) {
    steps.push_back(static_cast<const torch::optim::AdamWParamState&>(*state).step());
  }
  return steps;
}

void expect_equal_runs(const ta::Batch& rows, const ta::TrainOptions& options) {
  Objects at_once(kAtOnce);
  Objects late(kLate);
  WithFactor oracle(at_once, always_one);
  WithFactor trainer(late, always_one);
  oracle.train(rows, options);
  trainer.train(rows, options);
  EXPECT_TRUE(equal_bits(*at_once.net, *late.net));
  EXPECT_EQ(steps_of(late.optimizer), steps_of(at_once.optimizer));
  for (const char* name : {"train_loss", "eval_loss", "learning_rate"}) {
    EXPECT_EQ(trainer.history().values(name), oracle.history().values(name)) << name;
  }
  EXPECT_EQ(trainer.progress().loss, oracle.progress().loss);
}

ta::Batch weighted(std::int64_t rows) {
  auto batch = tiny_batch(rows);
  batch.set("weight", torch::arange(rows, torch::kFloat32).remainder(5));
  return batch;
}

TEST(LateVerdicts, GiveTheBitsOfThoseAtOnce) {
  expect_equal_runs(tiny_batch(37), {.num_epochs = 3,
                                     .eval_dataset = tiny_batch(9, 2),
                                     .per_device_batch_size = 4,
                                     .scheduler = ta::cosine({})});
}

TEST(LateVerdicts, GiveTheBitsWithAccumulationAndClipping) {
  expect_equal_runs(tiny_batch(37), {.num_epochs = 3,
                                     .eval_dataset = tiny_batch(9, 2),
                                     .per_device_batch_size = 4,
                                     .gradient_accumulation_steps = 3,
                                     .clip_gradient_norm = 0.05,
                                     .clip_gradient_value = 0.01});
}

TEST(LateVerdicts, GiveTheBitsOfLossesWithWeights) {
  expect_equal_runs(weighted(37), {.num_epochs = 3,
                                   .eval_dataset = weighted(9),
                                   .per_device_batch_size = 4,
                                   .gradient_accumulation_steps = 2});
}

TEST(LateVerdicts, KeepAnUpdateThatIsNotFiniteFromTheWeights) {
  const ta::TrainOptions options{.num_epochs = 1, .per_device_batch_size = 4};
  Objects late(kLate);
  WithFactor trainer(late, nan_at(4));
  std::int64_t heard_at = 0;
  trainer.callbacks().add(
      AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) { heard_at = event.updates; }));
  EXPECT_THAT(message_of<ta::NumericError>([&] { trainer.train(tiny_batch(64), options); }),
              AllOf(HasSubstr("the loss is not finite at update 4 of epoch 1"),
                    HasSubstr("no weight has changed by it")));
  EXPECT_EQ(heard_at, 5) << "the next one was on its way";

  // The same without it: what came after it counted its steps as if it had not been.
  Objects at_once(kAtOnce);
  auto skipping = options;
  skipping.non_finite = ta::NonFinite::kSkip;
  skipping.max_updates = 6;
  ta::set_log_level(ta::LogLevel::kOff);
  WithFactor(at_once, nan_at(4)).train(tiny_batch(64), skipping);
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_TRUE(equal_bits(*late.net, *at_once.net));
  EXPECT_EQ(steps_of(late.optimizer), steps_of(at_once.optimizer));
}

TEST(LateVerdicts, StopARunAnUpdateLater) {
  Objects late(kLate);
  WithFactor trainer(late, nan_at(4));
  const auto result = trainer.train(
      tiny_batch(64),
      {.num_epochs = 1, .per_device_batch_size = 4, .non_finite = ta::NonFinite::kStop});
  EXPECT_THAT(result.stop_reason, HasSubstr("not finite at update 4"));
  EXPECT_EQ(result.progress.update, 6);
  EXPECT_EQ(result.progress.skipped_updates, 1);
  for (const auto step : steps_of(late.optimizer)) EXPECT_EQ(step, 5);
}

TEST(LateVerdicts, CountTheStepsOfTwoBadUpdatesInARow) {
  Objects late(kLate);
  WithFactor trainer(late, [](std::int64_t at) { return at >= 4 ? std::nan("") : 1.0; });
  EXPECT_FALSE(message_of<ta::NumericError>([&] {
                 trainer.train(tiny_batch(64), {.num_epochs = 1, .per_device_batch_size = 4});
               }).empty());
  for (const auto step : steps_of(late.optimizer)) EXPECT_EQ(step, 4);
}

TEST(LateVerdicts, SeeANormThatIsNotFinite) {
  Objects late(kLate);
  // The loss is finite, its gradient is not, from the fourth update on: d sqrt(x) at 0.
  std::int64_t call = 0;
  ta::Trainer trainer(
      late.net,
      [&call](const torch::Tensor& output, const torch::Tensor& target) {
        return ++call < 4 ? torch::mse_loss(output, target) : (output * 0).sum().sqrt();
      },
      late.optimizer, ta::CallbackList(), &late.accelerator);
  EXPECT_THAT(message_of<ta::NumericError>([&] {
                trainer.train(
                    tiny_batch(64),
                    {.num_epochs = 1, .per_device_batch_size = 4, .clip_gradient_norm = 1.0});
              }),
              HasSubstr("the norm of the gradients is not finite at update 3"));
  for (const auto& parameter : late.net->parameters()) {
    EXPECT_TRUE(torch::isfinite(parameter).all().item<bool>());
  }
}

TEST(LateVerdicts, CountUpdatesWithoutAnyWeight) {
  auto rows = weighted(32);
  rows["weight"].narrow(0, 12, 4).zero_();
  const auto trained = [&](ta::Verdicts verdicts, Objects& run) {
    WithFactor trainer(run, always_one);
    ta::set_log_level(ta::LogLevel::kOff);
    const auto result = trainer.train(
        rows, {.num_epochs = 2, .per_device_batch_size = 4, .train_loader = {.shuffle = false}});
    ta::set_log_level(ta::LogLevel::kInfo);
    EXPECT_EQ(result.progress.skipped_updates, 2) << static_cast<int>(verdicts);
  };
  Objects late(kLate);
  Objects at_once(kAtOnce);
  trained(kLate, late);
  trained(kAtOnce, at_once);
  EXPECT_TRUE(equal_bits(*late.net, *at_once.net));
  EXPECT_EQ(steps_of(late.optimizer), steps_of(at_once.optimizer));
}

TEST(LateVerdicts, TellTheLossOfTheUpdateBefore) {
  const auto losses = [](ta::Verdicts verdicts) {
    Objects run(verdicts);
    WithFactor trainer(run, always_one);
    std::vector<double> seen;
    trainer.callbacks().add(AtStepEnd(
        [&](ta::Trainer& of, const ta::TrainStepEnd&) { seen.push_back(of.progress().loss); }));
    trainer.train(tiny_batch(24), {.num_epochs = 1, .per_device_batch_size = 4});
    return seen;
  };
  const auto at_once = losses(kAtOnce);
  const auto late = losses(kLate);
  ASSERT_EQ(late.size(), at_once.size());
  EXPECT_EQ(late[0], at_once[0]) << "the first update is waited for";
  for (std::size_t i = 2; i < late.size(); ++i) EXPECT_EQ(late[i], at_once[i - 1]);
}

TEST(LateVerdicts, HaveWhatWasAskedDoneOnceAndAnUpdateLater) {
  const torch_accelerated::testing::TempDir directory;
  Objects late(kLate);
  WithFactor trainer(late, always_one);
  std::vector<std::int64_t> evaluated;
  trainer.callbacks().add(AtStepEnd([](ta::Trainer& of, const ta::TrainStepEnd& event) {
    if (event.updates == 4) of.request_evaluation();
    if (event.updates == 8) of.request_checkpoint();
    if (event.updates == 12) of.request_stop("enough");
  }));
  const auto result = trainer.train(
      tiny_batch(96), {.num_epochs = 1,
                       .eval_dataset = tiny_batch(4, 2),
                       .per_device_batch_size = 4,
                       .checkpoints = {.directory = directory.path(), .asynchronous = false}});
  // Asked behind the word of its update, heard in the next one's, known when the one after is on
  // its way.
  const auto& rows = trainer.history().rows();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].updates, 6);
  EXPECT_EQ(result.progress.update, 14);
  EXPECT_EQ(result.stop_reason, "enough");
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    if (entry.is_directory()) folders.push_back(entry.path().filename().string());
  }
  ASSERT_EQ(folders.size(), 1U);
  EXPECT_THAT(folders[0], HasSubstr("10"));
}

TEST(LateVerdicts, GoOnFromACheckpointWithTheSameBits) {
  const torch_accelerated::testing::TempDir directory;
  const ta::TrainOptions options{.num_epochs = 2,
                                 .per_device_batch_size = 4,
                                 .scheduler = ta::cosine({}),
                                 .checkpoints = {.directory = directory.path()}};
  Objects whole(kLate);
  WithFactor(whole, always_one).train(tiny_batch(40), [&] {
    auto without = options;
    without.checkpoints = {};
    return without;
  }());
  Objects cut(kLate);
  WithFactor interrupted(cut, always_one);
  interrupted.callbacks().add(AtStepEnd([](ta::Trainer& of, const ta::TrainStepEnd& event) {
    if (event.updates == 7) of.request_checkpoint();
    if (event.updates == 13) throw std::runtime_error("gone");
  }));
  EXPECT_ANY_THROW(interrupted.train(tiny_batch(40), options));
  Objects resumed(kLate);
  auto again = options;
  again.resume_from = ta::latest_checkpoint(directory.path());
  WithFactor(resumed, always_one).train(tiny_batch(40), again);
  EXPECT_TRUE(equal_bits(*whole.net, *resumed.net));
  EXPECT_EQ(steps_of(resumed.optimizer), steps_of(whole.optimizer));
}

// Steps an optimizer by itself, which knows no flag.
class OwnStep : public WithFactor {
 public:
  using WithFactor::WithFactor;

 protected:
  void optimizer_step(torch::optim::Optimizer& optimizer) override { optimizer.step(); }
};

TEST(LateVerdicts, AreAtOnceWhereAStepLeavesTheAcceleratorOut) {
  Objects late(kLate);
  OwnStep trainer(late, nan_at(4));
  std::int64_t heard_at = 0;
  trainer.callbacks().add(
      AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) { heard_at = event.updates; }));
  EXPECT_THAT(message_of<ta::NumericError>([&] {
                trainer.train(tiny_batch(64), {.num_epochs = 1, .per_device_batch_size = 4});
              }),
              HasSubstr("at update 4"));
  EXPECT_EQ(heard_at, 4);
  for (const auto& parameter : late.net->parameters()) {
    EXPECT_TRUE(torch::isfinite(parameter).all().item<bool>());
  }
}

TEST(LateVerdicts, AreAtOnceWhereUpdatesAreSkipped) {
  Objects late(kLate);
  WithFactor trainer(late, nan_at(4));
  std::vector<bool> skipped;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
    skipped.push_back(event.update_skipped);
  }));
  ta::set_log_level(ta::LogLevel::kOff);
  trainer.train(tiny_batch(24),
                {.num_epochs = 1, .per_device_batch_size = 4, .non_finite = ta::NonFinite::kSkip});
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_THAT(skipped, testing::ElementsAre(false, false, false, false, true, false));
}

// Of 12 rows that were announced 8 come; the gradients are theirs.
TEST(LateVerdicts, DivideByTheRowsThatHaveCome) {
  const auto trained = [](ta::Verdicts verdicts) {
    Objects run(verdicts);
    run.accelerator.prepare(run.optimizer);
    for (int update = 0; update < 4; ++update) {
      for (const bool is_last : {false, true}) {
        const auto batch =
            tiny_batch(4, static_cast<std::uint64_t>(2 * update + (is_last ? 1 : 0)));
        const auto loss = torch::mse_loss(run.net->forward(batch["data"]), batch["target"]);
        run.accelerator.backward(
            loss, run.optimizer,
            {.rows = 4, .window_rows = 12, .micro_batches = 2, .is_last = is_last});
      }
      const bool late = run.accelerator.reduce_gradients(run.optimizer, /*may_be_late=*/true) ==
                        ta::Gradients::kUndecided;
      EXPECT_EQ(late, verdicts == kLate && update > 0);
      run.accelerator.step(run.optimizer);
      if (late) {
        EXPECT_TRUE(run.accelerator.take_verdict().is_usable);
      }
      run.optimizer.zero_grad();
    }
    return run.net;
  };
  EXPECT_TRUE(equal_bits(*trained(kLate), *trained(kAtOnce)));
}

TEST(LateVerdicts, AreSentOfAWindowThatIsDiscarded) {
  Objects run(kLate);
  run.accelerator.prepare(run.optimizer);
  const auto batch = tiny_batch(4);
  const auto backward = [&] {
    run.accelerator.backward(torch::mse_loss(run.net->forward(batch["data"]), batch["target"]),
                             run.optimizer);
  };
  backward();
  run.accelerator.step(run.optimizer);
  backward();
  ASSERT_EQ(run.accelerator.reduce_gradients(run.optimizer, true), ta::Gradients::kUndecided);
  run.accelerator.discard(run.optimizer);
  EXPECT_TRUE(run.accelerator.take_verdict().is_usable);
  for (const auto step : steps_of(run.optimizer)) EXPECT_EQ(step, 1);
}

TEST(LateVerdicts, AreAtOnceForASweepOfLearningRates) {
  const auto swept = [](ta::Verdicts verdicts) {
    Objects run(verdicts);
    WithFactor trainer(run, always_one);
    const auto result = ta::find_learning_rate(
        trainer, tiny_batch(64), {.updates = 20, .train = {.per_device_batch_size = 4}});
    EXPECT_EQ(run.accelerator.options().verdicts, verdicts);
    return result;
  };
  const auto late = swept(kLate);
  const auto at_once = swept(kAtOnce);
  EXPECT_EQ(late.losses, at_once.losses);
  EXPECT_EQ(late.rates, at_once.rates);
}

TEST(LateVerdicts, AreRefusedWhereNoneIsLate) {
  ta::Accelerator accelerator({.device = "cpu", .verdicts = kLate});
  EXPECT_THAT(message_of<ta::StateError>([&] { accelerator.take_verdict(); }),
              HasSubstr("Gradients::kUndecided"));
}

}  // namespace
}  // namespace tests::late_verdict_test
