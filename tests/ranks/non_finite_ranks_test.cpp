// SPDX-License-Identifier: Apache-2.0
// A number that is not finite on one rank, and what becomes of the update on all.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>

#include "ranks/same_bits.h"
#include "support/tiny.h"

namespace tests::non_finite_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// NaN in the rows with a hole, of which one rank has one.
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

TEST(NotFinite, ALossThatIsNotFiniteOnOneRankThrowsOnAll) {
  ta::Accelerator ranks;
  const auto text = message_of<ta::NumericError>(
      [&] { train_over_hole(ranks, tiny_net(), ta::NonFinite::kThrow); });
  EXPECT_THAT(text, HasSubstr("the loss is not finite"));
  EXPECT_THAT(text, HasSubstr("at update 1 of epoch 1"));
  const int last = ranks.world_size() - 1;
  EXPECT_THAT(text, HasSubstr(last > 0 ? "on rank " + std::to_string(last) : ""));
}

TEST(NotFinite, ALossThatIsNotFiniteIsSkippedOrStopsOnAllRanks) {
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

TEST(NotFinite, RandomLossesThatAreNotFiniteLeaveReplicasEqual) {
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

TEST(NotFinite, ASkippedUpdateIsLeftOutOfTheLossAsAWhole) {
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

// One log: the main process tells of what all ranks have skipped.
TEST(NotFinite, ASkippedUpdateIsLoggedOnce) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  testing::internal::CaptureStderr();
  train_over_hole(ranks, net, ta::NonFinite::kSkip);
  const auto all = ranks.gather_objects(testing::internal::GetCapturedStderr());
  EXPECT_THAT(all[0], HasSubstr("the loss is not finite"));
  EXPECT_EQ(std::count(all[0].begin(), all[0].end(), '\n'), 1) << all[0];
  for (std::size_t rank = 1; rank < all.size(); ++rank) EXPECT_EQ(all[rank], "");
}

/// Finite, with a gradient of NaN for the rows with a hole: the root's is infinite at 0.
ta::Mean gradient_with_holes(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto holes = batch["hole"].nonzero().squeeze(1);
  const auto zeros = outputs.only().index_select(0, holes) * 0;
  return {(outputs.only() - batch["target"]).square().mean() + zeros.sqrt().sum()};
}

ta::RunResult train_over_gradient(ta::Accelerator& ranks, torch::nn::Sequential net,
                                  ta::TrainOptions options) {
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, ta::LossFunction(gradient_with_holes), optimizer, ta::CallbackList(),
                      &ranks);
  options.num_epochs = 1;
  options.global_batch_size = 8;
  options.train_loader.shuffle = false;
  return trainer.train(rows_with_a_hole(), options);
}

std::vector<ta::TrainOptions> ways_to_know_the_norm() {
  return {{.clip_gradient_norm = 1.0}, {.track_gradient_norm = true}};
}

TEST(NotFinite, AGradientOfOneRankIsKeptFromAllWeightsWhereItsNormIsKnown) {
  ta::Accelerator ranks;
  ta::set_log_level(ta::LogLevel::kError);
  for (auto options : ways_to_know_the_norm()) {
    options.non_finite = ta::NonFinite::kSkip;
    auto net = tiny_net();
    const auto skipped = train_over_gradient(ranks, net, options);
    EXPECT_EQ(skipped.progress.update, 4);
    EXPECT_EQ(skipped.progress.skipped_updates, 1);
    expect_same_bits_everywhere(ranks, net);  // finite ones
    options.non_finite = ta::NonFinite::kStop;
    auto other = tiny_net();
    const auto stopped = train_over_gradient(ranks, other, options);
    EXPECT_THAT(stopped.stop_reason, HasSubstr("the norm of the gradients is not finite"));
    EXPECT_EQ(stopped.progress.update, 2);
    expect_same_bits_everywhere(ranks, other);
  }
  ta::set_log_level(ta::LogLevel::kInfo);
}

TEST(NotFinite, AGradientOfOneRankThrowsOnAllWhereItsNormIsKnown) {
  ta::Accelerator ranks;
  for (const auto& options : ways_to_know_the_norm()) {
    auto net = tiny_net();
    const auto text =
        message_of<ta::NumericError>([&] { train_over_gradient(ranks, net, options); });
    EXPECT_THAT(text, AllOf(HasSubstr("the norm of the gradients is not finite"),
                            HasSubstr("at update 1 of epoch 1"), Not(HasSubstr("on rank"))));
    expect_same_bits_everywhere(ranks, net);
  }
}

// As docs/concepts.md says: without clipping nothing looks at the gradients themselves. The next
// update's loss tells, on all ranks, as all have stepped alike.
TEST(NotFinite, AGradientThatNothingLooksAtIsToldByTheNextLoss) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  const auto text = message_of<ta::NumericError>([&] { train_over_gradient(ranks, net, {}); });
  EXPECT_THAT(text,
              AllOf(HasSubstr("the loss is not finite"), HasSubstr("at update 2 of epoch 1")));
  std::string everywhere = ranks.world_size() > 1 ? "on rank 0" : "";
  for (int rank = 1; rank < ranks.world_size(); ++rank) everywhere += ", " + std::to_string(rank);
  EXPECT_THAT(text, HasSubstr(everywhere));
  for (const auto& parameter : net->parameters()) {
    EXPECT_TRUE(parameter.isnan().all().item<bool>());
  }
}

}  // namespace
}  // namespace tests::non_finite_ranks_test
