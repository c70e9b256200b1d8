// SPDX-License-Identifier: Apache-2.0
// Training in fp16: reduced, unscaled once, clipped, and stepped by the gradients that one big
// batch has.
#include <gmock/gmock.h>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::mixed_precision_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// fp16 in which float64 stays what it is, so that what scaling does is seen to the bit.
struct Fp16 : ta::Accelerator {
  explicit Fp16(const ta::LossScaling& scaling = {}, bool fused = true)
      : Accelerator({.device = "cpu",
                     .mixed_precision = ta::MixedPrecision::kFp16,
                     .loss_scaling = scaling,
                     .fused_optimizers = fused}) {}
};

ta::LossScaling fixed(double scale) { return {.initial_scale = scale, .growth_factor = 1}; }

torch::nn::Sequential trained(ta::Accelerator& accelerator, torch::Dtype dtype,
                              const ta::TrainOptions& options, double momentum = 0.9) {
  auto net = tiny_net(7, dtype);
  auto optimizer = sgd(net, 0.1, momentum);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  trainer.train(tiny_batch(14, 1, dtype), options);
  return net;
}

TEST(Fp16Training, AFixedScaleChangesNoBitInFloat64) {
  const ta::TrainOptions options{.num_epochs = 3,
                                 .per_device_batch_size = 4,
                                 .gradient_accumulation_steps = 2,
                                 .clip_gradient_norm = 0.1};
  Fp16 scaled(fixed(1024));
  ta::Accelerator plain({.device = "cpu"});
  EXPECT_TRUE(equal_bits(*trained(scaled, torch::kFloat64, options),
                         *trained(plain, torch::kFloat64, options)));
}

TEST(Fp16Training, MicroBatchesClippedOnceMakeTheUpdateOfOneBigBatch) {
  for (const auto& [norm, value] :
       {std::pair<std::optional<double>, std::optional<double>>(0.05, {}), {{}, 0.02}, {{}, {}}}) {
    const ta::TrainOptions whole{.num_epochs = 1,
                                 .per_device_batch_size = 14,
                                 .clip_gradient_norm = norm,
                                 .clip_gradient_value = value};
    auto parts = whole;
    parts.per_device_batch_size = 4;  // 4, 4, 4 and 2 rows
    parts.gradient_accumulation_steps = 4;
    Fp16 accelerator;
    const auto one = trained(accelerator, torch::kFloat32, whole, 0);
    const auto four = trained(accelerator, torch::kFloat32, parts, 0);
    EXPECT_LT(relative_difference(*four, *one), 1e-3);
    EXPECT_FALSE(equal_bits(*one, *tiny_net())) << "nothing was trained";
  }
}

TEST(Fp16Training, IsDoneInFp16AndLearns) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  Fp16 accelerator;
  torch::Dtype seen = torch::kFloat32;
  const ta::Model model(net, [&](torch::nn::Sequential& of, const ta::Batch& batch) {
    const auto output = of->forward(batch["data"]);
    seen = output.scalar_type();
    return output;
  });
  ta::Trainer trainer(model, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  trainer.train(tiny_batch(32), {.num_epochs = 20, .per_device_batch_size = 4});
  EXPECT_EQ(seen, torch::kHalf);
  EXPECT_EQ(trainer.run_config().mixed_precision, "fp16");
  const auto losses = trainer.history().values("train_loss");
  EXPECT_LT(losses.back(), 0.8 * losses.front());
  EXPECT_EQ(net->parameters()[0].scalar_type(), torch::kFloat32);
}

TEST(Fp16Training, AnOverflowSkipsTheUpdateAndLeavesTheScheduleWhereItIs) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  Fp16 accelerator({.initial_scale = 0x1p30});
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  std::vector<double> rates_of_skipped;
  std::int64_t stepped = 0;
  trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
    if (!event.update_skipped) ++stepped;
    if (!event.update_skipped || stepped > 0) return;
    rates_of_skipped.push_back(of.progress().learning_rate);
    EXPECT_TRUE(equal_bits(*net, *tiny_net())) << "an update that overflowed has moved weights";
  }));
  trainer.train(tiny_batch(80), {.num_epochs = 1,
                                 .per_device_batch_size = 2,
                                 .scheduler = ta::cosine({.warmup_updates = 10})});
  const auto skipped = trainer.progress().skipped_updates;
  ASSERT_GE(skipped, 3) << "the scale was to be too large at first";
  ASSERT_GE(stepped, 10);
  ASSERT_GE(rates_of_skipped.size(), 3U);
  for (const double rate : rates_of_skipped) EXPECT_EQ(rate, rates_of_skipped.front());
  EXPECT_EQ(trainer.history().latest("skipped_updates"), static_cast<double>(skipped));
  EXPECT_EQ(trainer.history().latest("loss_scale"),
            0x1p30 / std::exp2(static_cast<double>(skipped)));
}

TEST(Fp16Training, EndsWhereNoScaleIsSmallEnough) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  Fp16 accelerator({.initial_scale = 0x1p40, .minimum_scale = 0x1p38, .skips_at_minimum = 4});
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  EXPECT_THAT(message_of<ta::NumericError>([&] {
                trainer.train(tiny_batch(80), {.num_epochs = 1, .per_device_batch_size = 4});
              }),
              HasSubstr("overflowed in 4 updates in a row"));
  EXPECT_TRUE(equal_bits(*net, *tiny_net()));
}

TEST(Fp16Training, AResumedRunHasTheScale) {
  const ta::testing::TempDir folder;
  const ta::LossScaling scaling{.initial_scale = 0x1p22, .growth_interval = 5};
  const auto train = [&](std::optional<std::int64_t> stop_after, bool resume) {
    auto net = tiny_net();
    auto optimizer = sgd(net);
    Fp16 accelerator(scaling);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
      if (stop_after && event.updates == *stop_after) {
        of.request_checkpoint();
        of.request_stop("enough");
      }
    }));
    ta::TrainOptions options{.num_epochs = 2, .per_device_batch_size = 4};
    if (stop_after || resume) options.checkpoints.directory = folder.path() / "checkpoints";
    if (resume) options.resume_from = ta::latest_checkpoint(options.checkpoints.directory);
    trainer.train(tiny_batch(80), options);
    return std::pair(net, trainer.history().latest("loss_scale"));
  };
  const auto [whole, scale] = train({}, false);
  train(23, false);
  const auto [resumed, resumed_scale] = train({}, true);
  EXPECT_EQ(resumed_scale, scale);
  EXPECT_TRUE(equal_bits(*resumed, *whole));
}

TEST(Fp16Training, ScalesEachOfSeveralOptimizersByItself) {
  auto net = tiny_net(7, torch::kFloat64);
  auto other = tiny_net(8, torch::kFloat64);
  auto optimizer = sgd(net);
  auto other_optimizer = sgd(other);
  Fp16 accelerator({.initial_scale = 0x1p30});
  const auto batch = tiny_batch(4, 1, torch::kFloat64);
  accelerator.backward(torch::mse_loss(net->forward(batch["data"]), batch["target"]), optimizer);
  accelerator.backward(other->forward(batch["data"]).sum() * 1e300, other_optimizer);
  EXPECT_TRUE(accelerator.step(optimizer));
  EXPECT_FALSE(accelerator.step(other_optimizer));
  EXPECT_EQ(accelerator.loss_scale(optimizer), 0x1p30);
  EXPECT_EQ(accelerator.loss_scale(other_optimizer), 0x1p29);
}

TEST(Fp16Training, GradientsThatCameAboutElsewhereAreNotUnscaled) {
  Fp16 accelerator({.initial_scale = 1024});
  auto net = tiny_net();
  auto optimizer = sgd(net);
  const auto batch = tiny_batch(4);
  torch::mse_loss(net->forward(batch["data"]), batch["target"]).backward();
  const auto before = net->parameters()[0].grad().clone();
  EXPECT_EQ(accelerator.reduce_gradients(optimizer), ta::Gradients::kReady);
  EXPECT_TRUE(torch::equal(net->parameters()[0].grad(), before));
}

TEST(Fp16Training, RefusesParametersInHalfPrecisionByName) {
  Fp16 accelerator;
  auto net = tiny_net(7, torch::kHalf);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { accelerator.prepare(*net); }),
              AllOf(HasSubstr("'0.weight'"), HasSubstr("float32")));
}

TEST(Fp16Training, NamesAnOperationThatThereIsNotInFp16) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  Fp16 accelerator;
  const ta::Model model(net, [](torch::nn::Sequential& of, const ta::Batch& batch) {
    const auto output = of->forward(batch["data"]);
    return output + at::special_bessel_j0(output);
  });
  ta::Trainer trainer(model, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
  const auto text = message_of<ta::UserCodeError>(
      [&] { trainer.train(tiny_batch(8), {.num_epochs = 1, .per_device_batch_size = 4}); });
  EXPECT_THAT(text, AllOf(HasSubstr("bessel_j0"), HasSubstr("mixed_precision is fp16")));
}

}  // namespace
}  // namespace tests::mixed_precision_test
