// SPDX-License-Identifier: Apache-2.0
// What one rank does alone, and what all do about it.
#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <stdexcept>

#include "ranks/same_bits.h"
#include "support/tiny.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace tests {
namespace {

using testing::AllOf;
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

/// NaN in the rows with a negative target, of which one rank has one.
ta::Mean loss_with_holes(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto hole =
      torch::where(batch["hole"] != 0, torch::full({}, std::numeric_limits<float>::quiet_NaN()),
                   torch::zeros({}));
  return {(outputs.only() - batch["target"]).square().mean() + hole.sum()};
}

// One row of 8 in the second update has a hole: the last one, which the last rank has.
ta::Batch rows_with_a_hole() {
  auto rows = tiny_batch(32);
  auto hole = torch::zeros({32});
  hole[15] = 1;
  return rows.set("hole", hole);
}

ta::RunResult train_over_hole(ta::Accelerator& ranks, torch::nn::Sequential net,
                              ta::NonFinite policy) {
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, ta::LossFunction(loss_with_holes), optimizer, ta::CallbackList(),
                      &ranks);
  return trainer.train(rows_with_a_hole(), {.num_epochs = 1,
                                            .global_batch_size = 8,
                                            .train_loader = {.shuffle = false},
                                            .non_finite = policy});
}

TEST(Agreement, ALossThatIsNotFiniteOnOneRankThrowsOnAll) {
  ta::Accelerator ranks;
  const auto text = message_of<ta::NumericError>(
      [&] { train_over_hole(ranks, tiny_net(), ta::NonFinite::kThrow); });
  EXPECT_THAT(text, HasSubstr("the loss is not finite"));
  EXPECT_THAT(text, HasSubstr("at update 1 of epoch 1"));
  const int last = ranks.world_size() - 1;
  EXPECT_THAT(text, HasSubstr(last > 0 ? "on rank " + std::to_string(last) : ""));
}

TEST(Agreement, ALossThatIsNotFiniteIsSkippedOrStopsOnAllRanks) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  const auto skipped = train_over_hole(ranks, net, ta::NonFinite::kSkip);
  EXPECT_EQ(skipped.progress.update, 4);
  EXPECT_EQ(skipped.progress.skipped_updates, 1);
  expect_same_bits_everywhere(ranks, net);
  auto other = tiny_net();
  const auto stopped = train_over_hole(ranks, other, ta::NonFinite::kStop);
  EXPECT_TRUE(stopped.was_stopped());
  EXPECT_LE(stopped.progress.update, 3);
  expect_same_bits_everywhere(ranks, other);
}

/// NaN on some ranks at some updates, drawn from a seed.
class RandomHoles : public ta::Trainer {
 public:
  using Trainer::Trainer;
  std::int64_t holes = 0;  // of any rank

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    auto output = Trainer::calculate_train_batch_loss(batch);
    const auto update = static_cast<std::uint64_t>(progress().update);
    bool any = false;
    for (int rank = 0; rank < accelerator().world_size(); ++rank) {
      const bool hole =
          ta::RandomStream(5, update, static_cast<std::uint64_t>(rank)).uniform() < 0.1;
      any = any || hole;
      if (!hole || rank != accelerator().rank()) continue;
      output.loss = output.loss.numerator() * std::numeric_limits<double>::quiet_NaN();
    }
    holes += any ? 1 : 0;
    return output;
  }
};

TEST(Agreement, RandomLossesThatAreNotFiniteLeaveReplicasEqual) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net, 0.01);
  RandomHoles trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  ta::set_log_level(ta::LogLevel::kError);
  const auto result = trainer.train(tiny_batch(100), {.num_epochs = 100,
                                                      .global_batch_size = 8,
                                                      .max_updates = 1'000,
                                                      .non_finite = ta::NonFinite::kSkip});
  ta::set_log_level(ta::LogLevel::kInfo);
  EXPECT_EQ(result.progress.update, 1'000);
  EXPECT_GT(result.progress.skipped_updates, 50);
  EXPECT_EQ(result.progress.skipped_updates, trainer.holes);
  expect_same_bits_everywhere(ranks, net);
}

// --- Ranks that don't fit together
// ----------------------------------------------------------------

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

TEST(Agreement, ASkippedUpdateIsLeftOutOfTheLossAsAWhole) {
  const auto trained = [](ta::World world, std::int64_t steps) {
    ta::Accelerator accelerator(std::move(world));
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, ta::LossFunction(loss_with_holes), optimizer, ta::CallbackList(),
                        &accelerator);
    return trainer
        .train(rows_with_a_hole(), {.num_epochs = 1,
                                    .global_batch_size = 8,
                                    .gradient_accumulation_steps = steps,
                                    .train_loader = {.shuffle = false},
                                    .non_finite = ta::NonFinite::kSkip})
        .metrics["train_loss"];
  };
  ta::set_log_level(ta::LogLevel::kError);
  const auto expected = trained(ta::make_single_world(), 1);
  for (const std::int64_t steps : {1, 2, 4}) {
    // In float32: micro-batches of other sizes round otherwise.
    EXPECT_NEAR(trained(ta::make_world(), steps), expected, 1e-5 * expected) << steps;
  }
  ta::set_log_level(ta::LogLevel::kInfo);
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

// --- Evaluation, gathers
// ---------------------------------------------------------------------------

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

TEST(Agreement, GatherKeepsEveryRow) {
  ta::Accelerator ranks;
  const int rank = ranks.rank();
  for (const auto dtype : {torch::kFloat32, torch::kInt64, torch::kBool, torch::kBFloat16}) {
    const auto mine = torch::full({rank % 3, 2}, rank % 2, torch::kInt64).to(dtype);
    const auto all = ranks.gather(mine);
    std::int64_t row = 0;
    for (int from = 0; from < ranks.world_size(); ++from) {
      for (int i = 0; i < from % 3; ++i, ++row) {
        EXPECT_EQ(all[row][0].to(torch::kInt64).item<std::int64_t>(), from % 2);
      }
    }
    EXPECT_EQ(all.size(0), row);
  }
  // Padding fills up what is shorter; a real row that looks like padding stays.
  const auto wide = torch::full({2, rank + 1}, -1.0);
  const auto padded = ranks.gather(wide, -1.0);
  EXPECT_EQ(padded.size(0), 2 * ranks.world_size());
  EXPECT_EQ(padded.size(1), ranks.world_size());
}

TEST(Agreement, HelpersDoWhatTheySay) {
  ta::Accelerator ranks;
  const int size = ranks.world_size();
  EXPECT_EQ(ranks.reduce(torch::ones({2}))[0].item<float>(), static_cast<float>(size));
  EXPECT_EQ(ranks.broadcast(torch::full({1}, ranks.rank()), size - 1).item<int>(), size - 1);
  EXPECT_EQ(ranks.gather_objects("r" + std::to_string(ranks.rank())).back(),
            "r" + std::to_string(size - 1));
  EXPECT_TRUE(ranks.any(ranks.rank() == size - 1));
  EXPECT_FALSE(ranks.any(false));
  int runs = 0;
  ranks.main_process_first([&] { ++runs; });
  EXPECT_EQ(runs, 1);
  if (ranks.rank() == size - 1) ranks.set_trigger(ta::Trigger::kCheckpoint);
  ranks.exchange_triggers();
  EXPECT_TRUE(ranks.is_triggered(ta::Trigger::kCheckpoint));
  EXPECT_FALSE(ranks.is_triggered(ta::Trigger::kEvaluation));
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
}  // namespace tests
