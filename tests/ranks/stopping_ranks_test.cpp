// SPDX-License-Identifier: Apache-2.0
// A decision to stop, where ranks would decide otherwise each for itself.
#include <gmock/gmock.h>

#include <cmath>

#include "support/tiny.h"

namespace tests::stopping_ranks_test {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr std::int64_t kUpdatesOfEpoch = 3;

ta::RunResult train(ta::Trainer& trainer) {
  return trainer.train(tiny_batch(24), {.num_epochs = 9,
                                        .eval_dataset = tiny_batch(12, 2),  // each rank has as many
                                        .global_batch_size = 8,
                                        .eval_per_device_batch_size = 2});
}

/// Finds the evaluation's loss better and better, on one rank not even once.
class RankHistory : public ta::InMemoryHistory {
 public:
  explicit RankHistory(bool improves) : improves_(improves) {}
  void append(ta::HistoryRow row) override {
    row.metrics.set("eval_loss", improves_ ? 1.0 / static_cast<double>(row.epoch) : 1.0);
    ta::InMemoryHistory::append(std::move(row));
  }

 private:
  bool improves_;
};

// What a program's own history tells may differ between ranks. One that stops takes all with it,
// after the same update and for the reason that it gave.
TEST(StoppingOnRanks, EarlyStoppingOfOneRankStopsAllAfterTheSameUpdate) {
  ta::Accelerator ranks;
  for (const int odd : {0, ranks.world_size() - 1}) {
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::EarlyStopping({.patience = 2})), &ranks);
    trainer.use_history(std::make_unique<RankHistory>(ranks.rank() != odd));
    const auto result = train(trainer);
    EXPECT_EQ(result.progress.epoch, 3);
    EXPECT_EQ(result.progress.update, 3 * kUpdatesOfEpoch);
    EXPECT_THAT(result.stop_reason, HasSubstr("eval_loss is 1 and has not improved for 2 epochs"));
    EXPECT_THAT(ranks.gather_objects(result.stop_reason), Each(result.stop_reason));
  }
}

// A metric that each rank counts otherwise is one number on all. Here the ranks' own would improve
// for good on the first, never on the others; the mean over all rows is at its best in epoch 2.
TEST(StoppingOnRanks, EarlyStoppingGoesByWhatAllRanksFoundTogether) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::EarlyStopping({.metric = "eval_own", .patience = 2})),
                      &ranks);
  trainer.add_metric("own", [&](const ta::TensorDict&, const ta::Batch&) {
    const auto epoch = static_cast<double>(trainer.progress().epoch);
    const auto size = static_cast<double>(ranks.world_size());
    const double of_all = std::abs(epoch - 2);  // is what their sum over ranks is made to be
    const double falls = -100 * epoch;
    const double mine = ranks.is_main_process() ? falls : (of_all * size - falls) / (size - 1);
    return ta::Mean(torch::full({}, ranks.world_size() == 1 ? of_all : mine, torch::kFloat64));
  });
  const auto result = train(trainer);
  EXPECT_EQ(result.progress.epoch, 4);
  EXPECT_EQ(result.progress.update, 4 * kUpdatesOfEpoch);
  EXPECT_THAT(ranks.gather_objects(result.stop_reason), Each(result.stop_reason));
  const auto found = torch::tensor(trainer.history().values("eval_own"), torch::kFloat64);
  EXPECT_TRUE(
      torch::allclose(found, torch::tensor({1.0, 0.0, 1.0, 2.0}, torch::kFloat64), 1e-12, 1e-9))
      << found;
}

}  // namespace
}  // namespace tests::stopping_ranks_test
