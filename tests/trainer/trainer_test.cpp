// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/trainer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <thread>

#include "support/every_step.h"
#include "support/tiny.h"

namespace tests::trainer_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Fixture {
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

TEST(Trainer, LearnsAndRecordsEachEpoch) {
  Fixture f;
  const auto result = f.trainer.train(
      tiny_batch(32),
      {.num_epochs = 20, .eval_dataset = tiny_batch(9, 2), .per_device_batch_size = 4});
  const auto& history = f.trainer.history();
  ASSERT_EQ(history.rows().size(), 20U);
  EXPECT_EQ(history.rows().back().epoch, 20);
  EXPECT_EQ(history.rows().back().updates, 160);
  EXPECT_LT(history.values("train_loss").back(), 0.7 * history.values("train_loss").front());
  EXPECT_EQ(history.values("eval_loss").size(), 20U);
  EXPECT_EQ(history.latest("learning_rate"), 0.1);
  EXPECT_GT(history.latest("rows_per_second"), 0);
  EXPECT_FALSE(result.was_stopped());
  EXPECT_EQ(result.metrics["train_loss"], history.latest("train_loss"));
}

TEST(Trainer, ReportsTheExactMeanLossOfAnEpochWithAShortLastBatch) {
  Fixture f;
  for (auto& group : f.optimizer.param_groups()) group.options().set_lr(1e-30);
  const auto all = tiny_batch(11);
  f.trainer.train(all, {.num_epochs = 1, .eval_dataset = all, .per_device_batch_size = 4});
  const double whole = torch::mse_loss(f.net->forward(all["data"]), all["target"]).item<double>();
  EXPECT_NEAR(f.trainer.history().latest("train_loss"), whole, 1e-6);
  EXPECT_NEAR(f.trainer.history().latest("eval_loss"), whole, 1e-6);
}

TEST(Trainer, EvaluationCountsEachRowOnceForAnyBatchSize) {
  Fixture f;
  for (const std::int64_t size : {1, 3, 64, 97, 1000}) {
    std::int64_t rows = 0;
    ta::Trainer trainer(f.net, torch::nn::MSELoss(), f.optimizer, ta::CallbackList());
    trainer.add_metric("seen", [&](const ta::TensorDict&, const ta::Batch& batch) {
      rows += batch.rows();
      return ta::Mean(torch::ones({}), torch::ones({}));
    });
    const auto result = trainer.evaluate(tiny_batch(97), {.per_device_batch_size = size});
    EXPECT_EQ(rows, 97);
    EXPECT_EQ(result.rows, 97);
    EXPECT_EQ(result.batches, (97 + size - 1) / size);
  }
}

TEST(Trainer, EvaluationAloneLeavesTheHistory) {
  Fixture f;
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.run_config(); }), HasSubstr("train()"));
  EXPECT_GT(f.trainer.evaluate(tiny_batch(5)).metrics["eval_loss"], 0);
  EXPECT_TRUE(f.trainer.history().empty());
}

TEST(Trainer, EvaluationGivesEachPartItsOwnModeBack) {
  Fixture f;
  auto frozen = f.net->children()[0];
  f.net->train();
  frozen->eval();
  f.trainer.evaluate(tiny_batch(5));
  EXPECT_FALSE(frozen->is_training());
  EXPECT_TRUE(f.net->is_training());
  EXPECT_TRUE(f.net->children()[1]->is_training());
}

TEST(Trainer, TrainsTwiceInARowAndGivesTheLearningRateBack) {
  Fixture f;
  const ta::TrainOptions options{
      .num_epochs = 2, .per_device_batch_size = 4, .scheduler = ta::cosine()};
  const auto first = f.trainer.train(tiny_batch(8), options);
  EXPECT_NEAR(first.progress.learning_rate, 0.1 * (1 + std::cos(M_PI * 0.75)) / 2, 1e-12);
  EXPECT_EQ(f.optimizer.param_groups()[0].options().get_lr(), 0.1);
  auto more = options;
  more.reset_history = false;
  f.trainer.train(tiny_batch(8), more);
  EXPECT_EQ(f.trainer.history().rows().size(), 4U);
  EXPECT_EQ(f.trainer.history().rows().back().epoch, 4);
  f.trainer.train(tiny_batch(8), options);
  EXPECT_EQ(f.trainer.history().rows().size(), 2U);
}

TEST(Trainer, StopsAtMaxUpdatesWithTheEpochsEnd) {
  Fixture f;
  const auto result = f.trainer.train(tiny_batch(40), {.num_epochs = 10,
                                                       .eval_dataset = tiny_batch(4),
                                                       .per_device_batch_size = 4,
                                                       .max_updates = 13});
  EXPECT_EQ(result.progress.update, 13);
  EXPECT_EQ(result.progress.epoch, 2);
  EXPECT_FALSE(result.was_stopped());
  EXPECT_EQ(f.trainer.history().rows().size(), 2U);
  EXPECT_EQ(f.trainer.run_config().total_updates, 13);
}

TEST(Trainer, LimitsBatches) {
  Fixture f;
  const auto result = f.trainer.train(tiny_batch(40), {.num_epochs = 2,
                                                       .eval_dataset = tiny_batch(40),
                                                       .per_device_batch_size = 4,
                                                       .limit_train_batches = 3,
                                                       .limit_eval_batches = 2});
  EXPECT_EQ(result.progress.update, 6);
  EXPECT_EQ(f.trainer.run_config().total_updates, 6);
  EXPECT_EQ(f.trainer.evaluate(tiny_batch(40), {.limit_batches = 2}).rows, 16);
}

TEST(Trainer, ABatchLargerThanTheDatasetIsOneShortBatch) {
  Fixture f;
  EXPECT_EQ(f.trainer.train(tiny_batch(3), {.num_epochs = 1, .per_device_batch_size = 1000})
                .progress.update,
            1);
}

TEST(Trainer, ResolvesWhatWasAsked) {
  Fixture f;
  f.trainer.train(tiny_batch(50), {.num_epochs = 3,
                                   .global_batch_size = 12,
                                   .gradient_accumulation_steps = 3,
                                   .clip_gradient_norm = 2.0,
                                   .scheduler = ta::cosine(),
                                   .seed = 9});
  const auto& config = f.trainer.run_config();
  EXPECT_EQ(config.per_device_batch_size, 4);
  EXPECT_EQ(config.global_batch_size, 12);
  EXPECT_EQ(config.train_rows, 50);
  EXPECT_EQ(config.batches_per_epoch, 13);
  EXPECT_EQ(config.updates_per_epoch, 5);
  EXPECT_EQ(config.total_updates, 15);
  EXPECT_EQ(config.scheduler, "cosine");
  EXPECT_EQ(config.optimizers, "SGD lr 0.1");
  EXPECT_EQ(config.parameters, 4 * 5 + 5 + 5 * 3 + 3);
  EXPECT_THAT(config.table(), testing::AllOf(HasSubstr("total updates"), HasSubstr("15")));
}

TEST(Trainer, ProgressIsOnTheHost) {
  Fixture f;
  std::vector<double> losses;
  std::vector<double> outputs;
  f.trainer.callbacks().add(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    losses.push_back(trainer.progress().loss);
    outputs.push_back(event.output.loss.value().item<double>());
    EXPECT_EQ(trainer.progress().update, event.updates);
    EXPECT_FALSE(event.output.outputs.only().requires_grad());
  }));
  f.trainer.train(tiny_batch(12), {.num_epochs = 1, .per_device_batch_size = 4});
  EXPECT_EQ(losses, outputs);
}

TEST(Trainer, TakesAStopFromAnotherThread) {
  Fixture f;
  std::thread other;
  f.trainer.callbacks().add(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    if (!other.joinable()) other = std::thread([&] { trainer.request_stop("from outside"); });
  }));
  const auto result =
      f.trainer.train(tiny_batch(4), {.num_epochs = 10'000'000, .per_device_batch_size = 4});
  other.join();
  EXPECT_EQ(result.stop_reason, "from outside");
}

TEST(Trainer, ForgetsAStopThatWasMeantForNoRun) {
  Fixture f;
  f.trainer.request_stop("too early");
  EXPECT_FALSE(
      f.trainer.train(tiny_batch(4), {.num_epochs = 1, .per_device_batch_size = 4}).was_stopped());
}

TEST(Trainer, ClipsOnceAnUpdateByNormAndByValue) {
  Fixture f;
  const auto before = f.net->parameters()[0].detach().clone();
  torch::optim::SGD plain(f.net->parameters(), 1.0);
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), plain, ta::CallbackList());
  const auto result = trainer.train(tiny_batch(4), {.num_epochs = 1,
                                                    .per_device_batch_size = 4,
                                                    .clip_gradient_norm = 1e-3,
                                                    .clip_gradient_value = 1e-4});
  EXPECT_LE((f.net->parameters()[0] - before).abs().max().item<double>(), 1e-4 + 1e-7);
  EXPECT_GT(result.metrics["train_gradient_norm"], 1e-2) << "the norm before clipping is recorded";
}

class NanAt : public ta::Trainer {
 public:
  NanAt(torch::nn::Sequential net, torch::optim::Optimizer& optimizer, std::int64_t update)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()), update_(update) {}

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    auto output = Trainer::calculate_train_batch_loss(batch);
    if (progress().update == update_) {
      output.loss = ta::Mean(output.loss.value() * std::nan(""));
    }
    return output;
  }

 private:
  std::int64_t update_;
};

TEST(NonFinite, ThrowsBeforeTheWeightsChange) {
  Fixture f;
  NanAt trainer(f.net, f.optimizer, 0);
  EXPECT_THAT(message_of<ta::NumericError>([&] {
                trainer.train(tiny_batch(8), {.num_epochs = 1, .per_device_batch_size = 4});
              }),
              testing::AllOf(HasSubstr("update 0 of epoch 1"), HasSubstr("kSkip")));
  EXPECT_TRUE(equal_bits(*f.net, *tiny_net()));
}

TEST(NonFinite, SkipsCountsAndGoesOn) {
  Fixture f;
  NanAt trainer(f.net, f.optimizer, 1);
  ta::set_log_level(ta::LogLevel::kOff);
  const auto result = trainer.train(
      tiny_batch(16),
      {.num_epochs = 1, .per_device_batch_size = 4, .non_finite = ta::NonFinite::kSkip});
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_EQ(result.progress.update, 4);
  EXPECT_EQ(result.progress.skipped_updates, 1);
  EXPECT_TRUE(std::isfinite(result.metrics["train_loss"])) << "a skipped update isn't recorded";
  for (const auto& parameter : f.net->parameters()) {
    EXPECT_TRUE(torch::isfinite(parameter).all().item<bool>());
  }
}

TEST(NonFinite, StopsWithItsReason) {
  Fixture f;
  NanAt trainer(f.net, f.optimizer, 1);
  const auto result = trainer.train(
      tiny_batch(16),
      {.num_epochs = 1, .per_device_batch_size = 4, .non_finite = ta::NonFinite::kStop});
  EXPECT_THAT(result.stop_reason, HasSubstr("not finite at update 1"));
  EXPECT_EQ(result.progress.update, 2);
  EXPECT_EQ(result.progress.skipped_updates, 1);
}

TEST(NonFinite, SeesANormThatClippingFindsNotFinite) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  // The loss is finite, its gradient is not: d sqrt(x) at 0.
  ta::Trainer trainer(
      net,
      [](const torch::Tensor& output, const torch::Tensor&) { return (output * 0).sum().sqrt(); },
      optimizer, ta::CallbackList());
  EXPECT_THAT(message_of<ta::NumericError>([&] {
                trainer.train(tiny_batch(4), {.num_epochs = 1, .clip_gradient_norm = 1.0});
              }),
              HasSubstr("norm of the gradients is not finite"));
  EXPECT_TRUE(equal_bits(*net, *tiny_net()));
}

TEST(Trainer, CallsEveryOverridableStepInItsPlace) {
  Fixture f;
  std::vector<std::string> trace;
  EveryStep trainer(f.net, f.optimizer, [&](const char* step) { trace.emplace_back(step); });
  trainer.train(tiny_batch(8), {.num_epochs = 1,
                                .eval_dataset = tiny_batch(4),
                                .per_device_batch_size = 4,
                                .gradient_accumulation_steps = 2});
  EXPECT_THAT(trace, ElementsAre("default_train_loader_options", "create_train_dataloader",
                                 "default_eval_loader_options", "create_eval_dataloader",
                                 "create_run_config", "create_scheduler", "training_run_start",
                                 "train_epoch_start", "train_step", "calculate_train_batch_loss",
                                 "backward_step", "train_step", "calculate_train_batch_loss",
                                 "backward_step", "clip_gradients", "optimizer_step",
                                 "scheduler_step", "optimizer_zero_grad", "train_epoch_end",
                                 "eval_epoch_start", "calculate_eval_batch_loss", "eval_epoch_end",
                                 "training_run_epoch_end", "training_run_end"));
  trace.clear();
  trainer.evaluate(tiny_batch(4));
  EXPECT_THAT(trace,
              ElementsAre("default_eval_loader_options", "create_eval_dataloader",
                          "evaluation_run_start", "eval_epoch_start", "calculate_eval_batch_loss",
                          "eval_epoch_end", "evaluation_run_end"));
}

// Steps as code from elsewhere would, without the Trainer's own.
class PlainSteps : public ta::Trainer {
 public:
  using Trainer::Trainer;

 protected:
  void backward_step(const ta::Mean& loss, torch::optim::Optimizer& of) override {
    if (own_backward) {
      loss.value().backward();
    } else {
      Trainer::backward_step(loss, of);
    }
  }
  void optimizer_step(torch::optim::Optimizer& of) override { of.step(); }

 public:
  bool own_backward = false;
};

TEST(Trainer, StepsThatLeaveTheAcceleratorOutTrainAllTheSame) {
  const ta::TrainOptions options{.num_epochs = 2, .per_device_batch_size = 4};
  PlainAccelerator accelerator;
  Fixture plain;
  ta::Trainer(plain.net, torch::nn::MSELoss(), plain.optimizer, ta::CallbackList(), &accelerator)
      .train(tiny_batch(14), options);
  for (const bool own_backward : {false, true}) {
    Fixture f;
    PlainSteps trainer(f.net, torch::nn::MSELoss(), f.optimizer, ta::CallbackList());
    trainer.own_backward = own_backward;
    EXPECT_EQ(trainer.train(tiny_batch(14), options).progress.skipped_updates, 0);
    EXPECT_TRUE(equal_bits(*f.net, *plain.net));
  }
}

TEST(Trainer, TellsTheLengthOfAnEpochThatMaxUpdatesCutsShort) {
  Fixture f;
  class Lengths : public ta::Callback {
   public:
    explicit Lengths(std::vector<std::int64_t>& to) : to_(&to) {}
    void on_train_epoch_start(ta::Trainer&, const ta::TrainEpochStart& event) override {
      to_->push_back(event.batches.value());
    }
    std::vector<std::int64_t>* to_;
  };
  std::vector<std::int64_t> lengths;
  f.trainer.callbacks().add(Lengths(lengths));
  f.trainer.train(tiny_batch(40), {.num_epochs = 9, .per_device_batch_size = 4, .max_updates = 13});
  EXPECT_THAT(lengths, ElementsAre(10, 3));
}

TEST(Trainer, TrainsInBf16WhenTheAcceleratorSaysSo) {
  Fixture f;
  ta::Accelerator accelerator({.device = "cpu", .mixed_precision = ta::MixedPrecision::kBf16});
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), f.optimizer, ta::CallbackList(), &accelerator);
  trainer.train(tiny_batch(32), {.num_epochs = 20, .per_device_batch_size = 4});
  EXPECT_EQ(trainer.run_config().mixed_precision, "bf16");
  EXPECT_LT(trainer.history().values("train_loss").back(),
            0.8 * trainer.history().values("train_loss").front());
  EXPECT_EQ(f.net->parameters()[0].scalar_type(), torch::kFloat32);
}

TEST(Trainer, MovesOnlyWhatItsOptimizerHolds) {
  Fixture f;
  torch::optim::SGD last_layer(f.net->children().back()->parameters(), 0.1);
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), last_layer, ta::CallbackList());
  trainer.train(tiny_batch(8), {.num_epochs = 2, .per_device_batch_size = 4});
  const auto untouched = tiny_net();
  EXPECT_TRUE(f.net->parameters()[0].equal(untouched->parameters()[0]));
  EXPECT_FALSE(f.net->parameters()[0].grad().defined());
  EXPECT_FALSE(f.net->parameters()[2].equal(untouched->parameters()[2]));
}

}  // namespace
}  // namespace tests::trainer_test
