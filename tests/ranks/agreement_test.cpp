// SPDX-License-Identifier: Apache-2.0
// What one rank does alone, and what all do about it.
#include <gmock/gmock.h>

#include <functional>
#include <stdexcept>

#include "ranks/same_bits.h"
#include "support/tiny.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace tests::agreement_test {
namespace {

using testing::HasSubstr;

/// Requests a stop at the end of one update, on one rank.
class StopOnOneRank : public ta::Callback {
 public:
  StopOnOneRank(int rank, std::int64_t update) : rank_(rank), update_(update) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
    const bool mine = trainer.accelerator().rank() == rank_;
    if (mine && event.updates == update_) trainer.request_stop("rank " + std::to_string(rank_));
  }

 private:
  int rank_;
  std::int64_t update_;
};

TEST(Agreement, AStopOnOneRankStopsAllAfterTheSameUpdate) {
  ta::Accelerator ranks;
  const int last = ranks.world_size() - 1;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(StopOnOneRank(last, 5)), &ranks);
  const auto result = trainer.train(tiny_batch(64), {.num_epochs = 9, .global_batch_size = 4});
  EXPECT_EQ(result.progress.update, 6);  // the first one that can carry the request
  EXPECT_EQ(result.stop_reason, "rank " + std::to_string(last));
}

TEST(Agreement, AllRanksFireTheSameEvents) {
  ta::Accelerator ranks;
  std::vector<std::string> trace;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(RecordingCallback(trace)), &ranks);
  // Batches of 2, 2 and 1 rows: on more ranks some parts are empty.
  trainer.train(tiny_batch(5), {.num_epochs = 2,
                                .eval_dataset = tiny_batch(3),
                                .global_batch_size = 4,
                                .eval_per_device_batch_size = 1,
                                .gradient_accumulation_steps = 2});
  std::string joined;
  for (const auto& event : trace) joined += event + "\n";
  EXPECT_THAT(joined, HasSubstr("on_train_step_end 2 update 2"));
  for (const auto& other : ranks.gather_objects(joined)) EXPECT_EQ(other, joined);
}

/// Says that it has more batches than it has.
class Boaster : public ta::BatchSource {
 public:
  explicit Boaster(std::int64_t count) : count_(count) {}
  std::optional<ta::Batch> next() override {
    if (given_ == count_) return std::nullopt;
    return tiny_batch(2, static_cast<std::uint64_t>(++given_));
  }
  std::optional<std::int64_t> size() const override { return 9; }
  void start_epoch(std::int64_t) override { given_ = 0; }

 private:
  std::int64_t count_;
  std::int64_t given_ = 0;
};

TEST(Agreement, ASourceThatEndsBeforeItsLengthEndsTheEpoch) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  Boaster source(3 + ranks.rank());
  const std::int64_t longest = 3 + ranks.world_size() - 1;
  const auto result = trainer.train(source, {.num_epochs = 2, .gradient_accumulation_steps = 2});
  // Where it ends with a full window, others wait for rows that it said it had: one update of none.
  const auto stepped = result.progress.update - result.progress.skipped_updates;
  EXPECT_EQ(stepped, 2 * ((longest + 1) / 2));
  const auto evaluated = trainer.evaluate(source);
  std::int64_t rows = 0;
  for (int rank = 0; rank < ranks.world_size(); ++rank) rows += 2 * (3 + rank);
  EXPECT_EQ(evaluated.rows, rows);
  expect_same_bits_everywhere(ranks, net);
}

TEST(Agreement, FinishEndsWindowsThatOnlySomeRanksHaveOpen) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto trained = [](ta::Accelerator& accelerator, const std::vector<ta::Batch>& batches) {
    auto net = tiny_net(7, torch::kFloat64);
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.start({.gradient_accumulation_steps = 4});
    for (const auto& batch : batches) trainer.step(batch);
    const auto result = trainer.finish();
    EXPECT_EQ(result.progress.update, 2);
    return net;
  };
  // Each step has one row a rank: a whole window of them, then one step for even ranks only.
  const auto world = ranks.world_size();
  std::vector<ta::Batch> mine;
  std::vector<ta::Batch> all;
  for (std::uint64_t step = 0; step < 5; ++step) {
    const auto batch = tiny_batch(world, step + 1, torch::kFloat64);
    const auto every = step < 4 ? 1 : 2;
    const auto taken = [&](std::int64_t begin, std::int64_t end) {
      const auto rows = [&](const char* name) { return batch[name].slice(0, begin, end, every); };
      return ta::Batch{{"data", rows("data")}, {"target", rows("target")}};
    };
    all.push_back(taken(0, world));
    if (ranks.rank() % every == 0) mine.push_back(taken(ranks.rank(), ranks.rank() + 1));
  }
  const auto together = trained(ranks, mine);
  const auto single = trained(alone, all);
  expect_same_bits_everywhere(ranks, together);
  EXPECT_LE(relative_difference(*together, *single), 1e-12);
}

/// Requests a stop in an evaluation, and counts evaluations that went to their end.
class StopInEvaluation : public ta::Callback {
 public:
  explicit StopInEvaluation(int& ended) : ended_(&ended) {}
  void on_eval_step_end(ta::Trainer& trainer, const ta::EvalStepEnd& event) override {
    if (event.batch_index == 10 && trainer.accelerator().is_main_process()) {
      trainer.request_stop("seen enough");
    }
  }
  void on_eval_epoch_end(ta::Trainer&, const ta::EvalEpochEnd&) override { ++*ended_; }

 private:
  int* ended_;
};

TEST(Agreement, AStopCutsAnEvaluationShortAndDiscardsIt) {
  ta::Accelerator ranks;
  for (const std::int64_t batches : {49, 150}) {
    int ended = 0;
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(StopInEvaluation(ended)), &ranks);
    const auto result =
        trainer.train(tiny_batch(8), {.num_epochs = 5,
                                      .eval_dataset = tiny_batch(batches * ranks.world_size()),
                                      .global_batch_size = 8,
                                      .eval_per_device_batch_size = 1});
    EXPECT_EQ(result.stop_reason, "seen enough");
    EXPECT_EQ(result.progress.epoch, 1);
    EXPECT_EQ(ended, batches == 49 ? 1 : 0);
    EXPECT_EQ(result.metrics.find("eval_loss").has_value(), batches == 49);
  }
}

/// Fails in its own step on one rank.
class FailsOnRankOne : public ta::Trainer {
 public:
  using Trainer::Trainer;

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    if (accelerator().rank() == 1 && progress().update == 3) {
      throw std::runtime_error("a cable was pulled");
    }
    return Trainer::calculate_train_batch_loss(batch);
  }
};

// This program has initialised MPI, so the library ends no job.
TEST(Agreement, InACallersCommunicatorAFailureIsThrownOnEveryRank) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  FailsOnRankOne trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const auto run = [&] {
    trainer.train(tiny_batch(64), {.num_epochs = 9, .global_batch_size = 8});
  };
  if (ranks.rank() == 1) {
    EXPECT_THAT(message_of<ta::UserCodeError>(run), HasSubstr("a cable was pulled"));
  } else {
    EXPECT_THAT(message_of<ta::CommunicationError>(run), HasSubstr("a cable was pulled"));
  }
  EXPECT_THROW(ranks.barrier(), ta::CommunicationError);
  // The program's communicator is as it was, and another Accelerator works.
  EXPECT_EQ(ta::Accelerator().gather(torch::ones({1})).numel(), ranks.world_size());
}

TEST(Agreement, EverySampleIsEvaluatedOnce) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto rows = tiny_batch(10'007, 2, torch::kFloat64);
  auto net = tiny_net(7, torch::kFloat64);
  auto optimizer = sgd(net);
  const auto evaluated = [&](ta::Accelerator& accelerator, std::int64_t batch_size) {
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.add_metric("hits", [](const ta::TensorDict& outputs, const ta::Batch& batch) {
      const auto hit = outputs.only().argmax(1) == batch["target"].argmax(1);
      return ta::Mean(hit.sum().to(torch::kFloat64), torch::full({}, hit.numel(), torch::kFloat64));
    });
    return trainer.evaluate(rows, {.per_device_batch_size = batch_size});
  };
  const auto single = evaluated(alone, 64);
  EXPECT_EQ(single.rows, 10'007);
  for (const std::int64_t batch_size : {1, 7, 64, 20'000}) {
    const auto together = evaluated(ranks, batch_size);
    EXPECT_EQ(together.rows, 10'007);
    EXPECT_NEAR(together.metrics["eval_loss"], single.metrics["eval_loss"], 1e-12);
    EXPECT_EQ(together.metrics["eval_hits"], single.metrics["eval_hits"]);  // of whole numbers
  }
}

TEST(Agreement, SyncBatchNormGivesTheOneProcessResult) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto trained = [](ta::Accelerator& accelerator) {
    auto net = tiny_net(7, torch::kFloat64);
    net->push_back(torch::nn::BatchNorm1d(3));
    net->push_back(torch::nn::Linear(3, 3));
    net->to(torch::kFloat64);
    const ta::SeedScope scope(9);
    const torch::NoGradGuard no_grad;
    for (auto& parameter : net->parameters()) parameter.uniform_(-0.5, 0.5);
    ta::convert_sync_batch_norm(*net);
    torch::AutoGradMode grad(true);
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    // The last batch has 2 rows: on 3 and 4 ranks some have none.
    trainer.train(tiny_batch(34, 1, torch::kFloat64), {.num_epochs = 4, .global_batch_size = 8});
    return net;
  };
  const auto together = trained(ranks);
  const auto single = trained(alone);
  EXPECT_LE(relative_difference(*together, *single), 1e-11);
  const auto left = together->buffers();
  const auto right = single->buffers();
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(torch::allclose(left[i].to(torch::kFloat64), right[i].to(torch::kFloat64), 1e-11));
  }
}

}  // namespace
}  // namespace tests::agreement_test
