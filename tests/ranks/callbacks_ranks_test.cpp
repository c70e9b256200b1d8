// SPDX-License-Identifier: Apache-2.0
// What callbacks that decide or keep something do on several ranks.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/named_tensors.h"
#include "support/tiny.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/callbacks/early_stopping.h"
#include "torch_accelerated/callbacks/json_lines_logger.h"
#include "torch_accelerated/callbacks/max_time.h"
#include "torch_accelerated/callbacks/model_ema.h"
#include "torch_accelerated/callbacks/save_best_model.h"
#include "torch_accelerated/callbacks/step_based_evaluation.h"
#include "torch_accelerated/callbacks/swa.h"

namespace tests::callbacks_ranks_test {
namespace {

using testing::HasSubstr;

ta::Batch rows(std::int64_t count, std::uint64_t seed) {
  return tiny_batch(count, seed, torch::kFloat64);
}

/// 4-5-3 with a BatchNorm between.
torch::nn::Sequential normed_net() {
  const ta::SeedScope scope(7);
  torch::nn::Sequential net(torch::nn::Linear(4, 5), torch::nn::BatchNorm1d(5), torch::nn::Tanh(),
                            torch::nn::Linear(5, 3));
  net->to(torch::kFloat64);
  return net;
}

void expect_same_bits(ta::Accelerator& ranks, const ta::TensorDict& tensors) {
  ASSERT_FALSE(tensors.empty());
  for (const auto& [name, tensor] : tensors) {
    const auto all = ranks.gather(tensor.detach().unsqueeze(0));
    for (std::int64_t rank = 0; rank < ranks.world_size(); ++rank) {
      EXPECT_TRUE(torch::equal(all[rank], tensor)) << name;
    }
  }
}

// 1e-12: what fp64 sums in another order may differ by.
void expect_near(const ta::TensorDict& tensors, const ta::TensorDict& expected) {
  ASSERT_EQ(tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(torch::allclose(tensors[name], tensor, 1e-12, 1e-12)) << name;
  }
}

ta::TrainOptions options(std::int64_t epochs) {
  return {.num_epochs = epochs, .eval_dataset = rows(31, 2), .global_batch_size = 8};
}

TEST(CallbacksOnRanks, DecideAlikeAboutAMetric) {
  struct Ended {
    ta::RunResult result;
    ta::EpochMetric best;
  };
  const auto train = [](ta::Accelerator& ranks) {
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net, 1.5);  // diverges
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::EarlyStopping({.patience = 2}), ta::SaveBestModel()),
                        &ranks);
    const auto result = trainer.train(rows(20, 1), options(30));
    expect_same_bits(ranks, ta::named_tensors(*net));
    const auto again = trainer.evaluate(rows(31, 2));
    const auto best = *trainer.callbacks().find<ta::SaveBestModel>()->best();
    EXPECT_NEAR(again.metrics["eval_loss"], best.value, 1e-12 * best.value);
    return Ended{result, best};
  };
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto together = train(ranks);
  const auto single = train(alone);
  EXPECT_TRUE(together.result.was_stopped());
  EXPECT_THAT(together.result.stop_reason, HasSubstr("has not improved for 2 epochs"));
  EXPECT_EQ(together.result.stop_reason, single.result.stop_reason);
  EXPECT_EQ(together.result.progress.update, single.result.progress.update);
  EXPECT_EQ(together.best.epoch, single.best.epoch);
}

TEST(CallbacksOnRanks, EvaluateBetweenUpdatesAsOneProcessDoes) {
  const auto train = [](ta::Accelerator& ranks) {
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net);
    ta::Trainer trainer(
        net, torch::nn::MSELoss(), optimizer,
        ta::CallbackList(ta::StepBasedEvaluation({.every_updates = 2, .limit_batches = 3})),
        &ranks);
    // A batch of 12 rows is the same rows on 1, 2, 3 and 4 ranks.
    trainer.train(rows(48, 1),
                  {.num_epochs = 2, .eval_dataset = rows(61, 2), .global_batch_size = 12});
    return trainer.history().values("intermediate_eval_loss");
  };
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto together = train(ranks);
  const auto single = train(alone);
  ASSERT_EQ(together.size(), 4U);
  ASSERT_EQ(single.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(together[i], single[i], 1e-12 * single[i]);
}

TEST(CallbacksOnRanks, AverageToTheSameBits) {
  struct Ended {
    ta::TensorDict ema, swa;
    double ema_loss, swa_loss;
  };
  const auto train = [](ta::Accelerator& ranks) {
    auto net = tiny_net(7 + static_cast<std::uint64_t>(ranks.rank()), torch::kFloat64);
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::ModelEma({.decay = 0.9, .warmup = true}),
                                         ta::Swa({.start_epoch = 2, .evaluate = true})),
                        &ranks);
    const auto result = trainer.train(rows(20, 1), options(4));
    const auto& ema = trainer.callbacks().find<ta::ModelEma>()->averages();
    const auto swa = trainer.callbacks().find<ta::Swa>()->averages();
    expect_same_bits(ranks, ema);
    expect_same_bits(ranks, swa);
    expect_same_bits(ranks, ta::named_tensors(*net));
    return Ended{ema, swa, result.metrics["ema_eval_loss"], result.metrics["swa_eval_loss"]};
  };
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto together = train(ranks);
  const auto single = train(alone);
  expect_near(together.ema, single.ema);
  expect_near(together.swa, single.swa);
  EXPECT_NEAR(together.ema_loss, single.ema_loss, 1e-12 * single.ema_loss);
  EXPECT_NEAR(together.swa_loss, single.swa_loss, 1e-12 * single.swa_loss);
}

TEST(CallbacksOnRanks, RecomputeStatisticsOfBatchNormToTheSameBits) {
  const auto train = [](ta::Accelerator& ranks, bool converted) {
    auto net = normed_net();
    if (converted) ta::convert_sync_batch_norm(*net);
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::Swa({.start_epoch = 1,
                                                  .evaluate = true,
                                                  .batch_norm_dataset = rows(21, 3),
                                                  .batch_norm_batch_size = 10})),
                        &ranks);
    trainer.train(rows(24, 1), options(2));
    auto tensors = ta::named_tensors(*net);
    expect_same_bits(ranks, tensors);
    return tensors;
  };
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  train(ranks, /*converted=*/false);
  expect_near(train(ranks, /*converted=*/true), train(alone, /*converted=*/false));
}

TEST(CallbacksOnRanks, StopByTheMainProcesssClockAfterTheSameUpdate) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::MaxTime(std::chrono::milliseconds(20))), &ranks);
  const auto result =
      trainer.train(tiny_batch(64), {.num_epochs = 1'000'000, .global_batch_size = 8});
  EXPECT_EQ(result.stop_reason, "MaxTime: the run has lasted for 0.02 s");
  const auto updates = ranks.gather(torch::full({1}, result.progress.update, torch::kInt64));
  EXPECT_TRUE(updates.eq(updates[0]).all().item<bool>());
}

TEST(CallbacksOnRanks, WriteTheRowsOnceAndOnlyFromTheMainProcess) {
  ta::Accelerator ranks;
  const auto mine = std::filesystem::temp_directory_path() /
                    ("torch-accelerated-rows-" + std::to_string(::getpid()));
  const std::filesystem::path path = ranks.gather_objects(mine.string()).front();
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::JsonLinesLogger(path)), &ranks);
  trainer.train(tiny_batch(16), {.num_epochs = 3, .global_batch_size = 8});
  ranks.barrier();
  std::ifstream file(path);
  std::int64_t lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  EXPECT_EQ(lines, 3);
  ranks.barrier();
  if (ranks.is_main_process()) std::filesystem::remove(path);
}

TEST(CallbacksOnRanks, RefuseAWrongMetricOnAllRanksTogether) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::EarlyStopping({.metric = "eval_los"})), &ranks);
  const auto text = message_of<ta::ArgumentError>(
      [&] { trainer.train(tiny_batch(16), {.num_epochs = 1, .eval_dataset = tiny_batch(4)}); });
  EXPECT_THAT(text, HasSubstr("did you mean 'eval_loss'"));
  ranks.barrier();  // all are still there
}

}  // namespace
}  // namespace tests::callbacks_ranks_test
