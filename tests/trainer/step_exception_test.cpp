// SPDX-License-Identifier: Apache-2.0
// An exception in any step ends the call in one typed error, and leaves nothing behind.
#include <gmock/gmock.h>

#include <stdexcept>

#include "support/every_step.h"
#include "support/tiny.h"

namespace tests::step_exception_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kRate = 0.1;

// Without momentum, so that parameters are all that an optimizer leaves for the next run.
torch::optim::SGD plain_sgd(const torch::nn::Sequential& net) { return sgd(net, kRate, 0); }

double rate_of(const torch::optim::Optimizer& optimizer) {
  return optimizer.param_groups().front().options().get_lr();
}

// Four updates of two micro-batches; the rate is `kRate` at the second one alone, and at none 0.
ta::RunResult train(ta::Trainer& trainer) {
  return trainer.train(
      tiny_batch(8),
      {.num_epochs = 2,
       .eval_dataset = tiny_batch(4, 2),
       .per_device_batch_size = 2,
       .gradient_accumulation_steps = 2,
       .scheduler = ta::cosine({.warmup_updates = 1, .warmup_start_rate = kRate / 2})});
}

int calls_in_a_run(const std::string& step) {
  int calls = 0;
  auto net = tiny_net();
  auto optimizer = plain_sgd(net);
  EveryStep trainer(net, optimizer, [&](const char* entered) { calls += entered == step; });
  train(trainer);
  return calls;
}

torch::nn::Sequential copy_of(const torch::nn::Sequential& net) {
  auto copy = tiny_net();
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < copy->parameters().size(); ++i) {
    copy->parameters()[i].copy_(net->parameters()[i]);
  }
  return copy;
}

// The schedule hasn't moved the rate yet.
bool comes_before_the_schedule(const std::string& step) {
  return step.starts_with("create_") || step.starts_with("default_");
}

std::string name_of(const testing::TestParamInfo<const char*>& info) { return info.param; }

class ThrowingStep : public testing::TestWithParam<const char*> {};

// At the step's last call, with half a window open where it has several.
TEST_P(ThrowingStep, EndsTheRunAndTheNextOneIsThatOfANewTrainer) {
  const std::string step = GetParam();
  const int last_call = calls_in_a_run(step);
  ASSERT_GT(last_call, 0);
  int calls = 0;
  double rate = kRate;
  auto net = tiny_net();
  auto optimizer = plain_sgd(net);
  EveryStep trainer(net, optimizer, [&](const char* entered) {
    if (entered != step || ++calls != last_call) return;
    rate = rate_of(optimizer);
    throw std::runtime_error("thrown on purpose");
  });
  EXPECT_THAT(message_of<ta::UserCodeError>([&] { train(trainer); }),
              AllOf(HasSubstr(" failed"), HasSubstr("thrown on purpose")));
  EXPECT_EQ(rate == kRate, comes_before_the_schedule(step)) << "the rate when it threw";
  EXPECT_EQ(rate_of(optimizer), kRate);
  EXPECT_TRUE(net->is_training());

  auto copy = copy_of(net);
  auto other_optimizer = plain_sgd(copy);
  ta::Trainer other(copy, torch::nn::MSELoss(), other_optimizer, ta::CallbackList());
  const auto expected = train(other);
  const auto result = train(trainer);
  EXPECT_EQ(result.progress.update, 4);
  EXPECT_EQ(result.metrics["train_loss"], expected.metrics["train_loss"]);
  EXPECT_EQ(result.metrics["eval_loss"], expected.metrics["eval_loss"]);
  EXPECT_EQ(trainer.history().rows().size(), 2U);
  EXPECT_TRUE(equal_bits(*net, *copy));
}

INSTANTIATE_TEST_SUITE_P(
    OfARun, ThrowingStep,
    testing::Values("default_train_loader_options", "create_train_dataloader",
                    "default_eval_loader_options", "create_eval_dataloader", "create_run_config",
                    "create_scheduler", "training_run_start", "train_epoch_start", "train_step",
                    "calculate_train_batch_loss", "backward_step", "clip_gradients",
                    "optimizer_step", "scheduler_step", "optimizer_zero_grad", "train_epoch_end",
                    "eval_epoch_start", "calculate_eval_batch_loss", "eval_epoch_end",
                    "training_run_epoch_end", "training_run_end"),
    name_of);

class ThrowingEvaluationStep : public testing::TestWithParam<const char*> {};

TEST_P(ThrowingEvaluationStep, EndsTheEvaluationAndTheNextOneFindsTheSame) {
  const std::string step = GetParam();
  bool armed = false;
  auto net = tiny_net();
  auto optimizer = plain_sgd(net);
  EveryStep trainer(net, optimizer, [&](const char* entered) {
    if (armed && entered == step) throw std::runtime_error("thrown on purpose");
  });
  const auto evaluate = [&] { return trainer.evaluate(tiny_batch(5, 2)).metrics["eval_loss"]; };
  const double expected = evaluate();
  armed = true;
  EXPECT_THAT(message_of<ta::UserCodeError>([&] { evaluate(); }),
              AllOf(HasSubstr(" failed"), HasSubstr("thrown on purpose")));
  EXPECT_TRUE(net->is_training());
  armed = false;
  EXPECT_EQ(evaluate(), expected);
}

INSTANTIATE_TEST_SUITE_P(OfAnEvaluation, ThrowingEvaluationStep,
                         testing::Values("default_eval_loader_options", "create_eval_dataloader",
                                         "evaluation_run_start", "eval_epoch_start",
                                         "calculate_eval_batch_loss", "eval_epoch_end",
                                         "evaluation_run_end"),
                         name_of);

}  // namespace
}  // namespace tests::step_exception_test
