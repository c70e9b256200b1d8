// SPDX-License-Identifier: Apache-2.0
// What trainers have got wrong before (D1 to D21), each claim by its name, where no other test has
// it already. The others stand where they belong:
//   D1, D2  callbacks/step_based_evaluation_test.cpp, trainer/trial_options_test.cpp
//   D4, D5  callbacks/wsd_checkpoint_test.cpp, schedulers/schedule_test.cpp
//   D6, D7  behaviour/resume_test.cpp, trainer/checkpointing_test.cpp
//   D8      schedulers/cosine_test.cpp
//   D9, D10 schedulers/schedule_test.cpp, ranks/run_options_ranks_test.cpp
//   D11     ranks/non_finite_ranks_test.cpp
//   D12     behaviour/accumulation_test.cpp, behaviour/weighted_clipping_test.cpp,
//           behaviour/mixed_precision_test.cpp
//   D13     finetuning/model_freezer_test.cpp
//   D15     schedulers/schedule_test.cpp
//   D17     callbacks/model_ema_test.cpp
//   D18     behaviour/accumulation_test.cpp
//   D19     accelerator/device_reads_test.cpp
//   D21     callbacks/save_best_model_test.cpp, ranks/resumable_test.cpp
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::seed_defects_test {
namespace {

struct Fixture {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};

  ta::RunResult train(const ta::TrainOptions& options) {
    return trainer.train(tiny_batch(24, 1, torch::kFloat64), options);
  }
};

TEST(TrainLoss, IsNotDividedByTheAccumulationSteps) {
  Fixture plain;
  Fixture accumulated;
  const auto one = plain.train({.num_epochs = 1, .per_device_batch_size = 24});
  const auto four = accumulated.train(
      {.num_epochs = 1, .per_device_batch_size = 6, .gradient_accumulation_steps = 4});
  EXPECT_NEAR(four.metrics["train_loss"], one.metrics["train_loss"], 1e-12);
}

TEST(RunConfig, CanBePrintedAfterAnEvaluationAlone) {
  Fixture f;
  f.trainer.evaluate(tiny_batch(5, 3, torch::kFloat64), {.per_device_batch_size = 2});
  EXPECT_EQ(f.trainer.run_config().eval_rows, 5);
  EXPECT_EQ(f.trainer.run_config().eval_per_device_batch_size, 2);
  EXPECT_THAT(f.trainer.run_config().table(), testing::HasSubstr("evaluation rows"));
}

TEST(Seeds, OfTheProgramAreLeftAlone) {
  Fixture f;
  torch::manual_seed(11);
  const auto before = torch::rand({3});
  torch::manual_seed(11);
  f.train({.num_epochs = 2, .eval_dataset = tiny_batch(5, 3, torch::kFloat64), .seed = 4});
  EXPECT_TRUE(torch::equal(torch::rand({3}), before));
}

TEST(Schedule, StartsWithItsFirstRateAndMovesOnceAnUpdateWhateverTheAccumulation) {
  Fixture f;
  std::vector<double> rates;
  f.trainer.callbacks().add(AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.update_ended) rates.push_back(trainer.progress().learning_rate);
  }));
  f.train({.num_epochs = 2,
           .per_device_batch_size = 2,
           .gradient_accumulation_steps = 3,
           .scheduler = ta::cosine()});
  ASSERT_EQ(rates.size(), 8U);
  for (std::size_t u = 0; u < rates.size(); ++u) {
    const ta::CosineOptions whole{.total_updates = 8};
    EXPECT_NEAR(rates[u], ta::cosine_rate(static_cast<std::int64_t>(u), 0.1, whole), 1e-15);
  }
}

TEST(MaxUpdates, CountUpdatesAndNotMicroBatches) {
  Fixture f;
  const auto result = f.train({.num_epochs = 9,
                               .per_device_batch_size = 2,
                               .max_updates = 5,
                               .gradient_accumulation_steps = 3});
  EXPECT_EQ(result.progress.update, 5);
  EXPECT_EQ(result.progress.micro_batch, 3);  // of the second epoch: its fifth update's window
}

TEST(History, IsNotChangedByALookUpThatFails) {
  Fixture f;
  f.train({.num_epochs = 2});
  const auto names = f.trainer.history().rows().back().metrics.size();
  EXPECT_THROW(f.trainer.history().latest("eval_los"), ta::ArgumentError);
  EXPECT_EQ(f.trainer.history().rows().size(), 2U);
  EXPECT_EQ(f.trainer.history().rows().back().metrics.size(), names);
}

}  // namespace
}  // namespace tests::seed_defects_test
