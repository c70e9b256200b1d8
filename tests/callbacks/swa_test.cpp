// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/swa.h"

#include <gmock/gmock.h>

#include "callbacks/fails_after_loading.h"
#include "core/named_tensors.h"
#include "support/tiny.h"

namespace tests::swa_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

torch::nn::Sequential plain_net() { return tiny_net(7, torch::kFloat64); }

/// With a BatchNorm, and a dropout that would make its statistics random.
torch::nn::Sequential normed_net() {
  const ta::SeedScope scope(7);
  torch::nn::Sequential net(torch::nn::Linear(4, 5), torch::nn::Dropout(0.5),
                            torch::nn::BatchNorm1d(torch::nn::BatchNormOptions(5).momentum(0.3)),
                            torch::nn::Linear(5, 3));
  net->to(torch::kFloat64);
  return net;
}

ta::Batch rows(std::int64_t count, std::uint64_t seed = 1) {
  return tiny_batch(count, seed, torch::kFloat64);
}

/// Keeps what the model has at the end of each epoch's training.
class Keeper : public ta::Callback {
 public:
  explicit Keeper(torch::nn::Sequential net) : net_(std::move(net)) {}
  void on_train_epoch_end(ta::Trainer&, const ta::TrainEpochEnd&) override {
    epochs.push_back(ta::copied(ta::named_tensors(*net_)));
  }
  std::vector<ta::TensorDict> epochs;

 private:
  torch::nn::Sequential net_;
};

struct Fixture {
  Fixture(torch::nn::Sequential model, const ta::SwaOptions& options) : net(std::move(model)) {
    trainer.callbacks().add(ta::Swa(options));
    trainer.callbacks().add(Keeper(net));
  }
  // Of two updates each.
  ta::RunResult run(std::int64_t epochs, std::optional<std::int64_t> max_updates = {}) {
    return trainer.train(rows(16), {.num_epochs = epochs,
                                    .eval_dataset = rows(12, 2),
                                    .per_device_batch_size = 8,
                                    .max_updates = max_updates});
  }
  ta::Swa& swa() { return *trainer.callbacks().find<ta::Swa>(); }
  const std::vector<ta::TensorDict>& kept() { return trainer.callbacks().find<Keeper>()->epochs; }

  torch::nn::Sequential net;
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

// The mean of the parameters of `epochs`, counted from 1.
double distance_from_mean(Fixture& f, const std::vector<std::size_t>& epochs) {
  const torch::NoGradGuard no_grad;
  double largest = 0;
  for (const auto& [name, parameter] : ta::named_parameters(*f.net)) {
    auto sum = torch::zeros_like(parameter);
    for (const auto epoch : epochs) sum += f.kept()[epoch - 1][name];
    const auto mean = sum / static_cast<double>(epochs.size());
    largest = std::max(largest, (parameter - mean).abs().max().item<double>());
  }
  return largest;
}

TEST(Swa, PutsTheMeanOfItsEpochsIntoTheModel) {
  Fixture by_epoch(plain_net(), {.start_epoch = 2, .every_epochs = 2});
  by_epoch.run(7);
  EXPECT_LT(distance_from_mean(by_epoch, {2, 4, 6}), 1e-14);
  EXPECT_EQ(by_epoch.swa().averaged_epochs(), 3);

  Fixture by_fraction(plain_net(), {.start_fraction = 0.5});
  by_fraction.run(5);
  EXPECT_LT(distance_from_mean(by_fraction, {3, 4, 5}), 1e-14);

  Fixture kept(plain_net(), {.start_epoch = 1, .replace_at_end = false});
  kept.run(2);
  EXPECT_EQ(distance_from_mean(kept, {2}), 0);
  EXPECT_GT(distance_from_mean(kept, {1, 2}), 1e-4);
}

TEST(Swa, CountsTheEpochsThatTheRunWillHave) {
  Fixture f(plain_net(), {.start_fraction = 0.5});
  EXPECT_EQ(f.run(100, /*max_updates=*/7).progress.epoch, 4);  // the last one has one update
  EXPECT_LT(distance_from_mean(f, {3, 4}), 1e-14);
  EXPECT_EQ(f.swa().averaged_epochs(), 2);

  Fixture late(plain_net(), {.start_epoch = 5});
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { late.run(100, /*max_updates=*/8); }),
              HasSubstr("start_epoch is 5, the run has 4 epochs"));
  late.run(5, /*max_updates=*/1000);
  EXPECT_EQ(late.swa().averaged_epochs(), 1);
}

TEST(Swa, RecomputesStatisticsOfBatchNormOverTheDataset) {
  const auto data = rows(22, 4);  // 8 and 8; 6 are too few for a batch
  Fixture f(
      normed_net(),
      {.start_epoch = 2, .evaluate = true, .batch_norm_dataset = data, .batch_norm_batch_size = 8});
  f.run(3);
  const torch::NoGradGuard no_grad;
  auto mean = torch::zeros({5}, torch::kFloat64);
  auto variance = torch::zeros({5}, torch::kFloat64);
  for (std::int64_t batch = 0; batch < 2; ++batch) {
    const auto x = data["data"].narrow(0, batch * 8, 8).matmul(f.net->parameters()[0].t()) +
                   f.net->parameters()[1];
    mean += x.mean(0) / 2;
    variance += x.var(0, /*unbiased=*/true) / 2;
  }
  const auto& norm = *f.net[2]->as<torch::nn::BatchNorm1d>();
  EXPECT_TRUE(torch::allclose(norm.running_mean, mean, 1e-12, 1e-14));
  EXPECT_TRUE(torch::allclose(norm.running_var, variance, 1e-12, 1e-14));
  EXPECT_EQ(norm.options.momentum(), 0.3);
  EXPECT_TRUE(norm.is_training());
  EXPECT_TRUE(f.net[1]->is_training());

  // Its own evaluation found what an evaluation of the model now finds.
  const auto& last = f.trainer.history().rows().back().metrics;
  const auto now = f.trainer.evaluate(rows(12, 2), {.per_device_batch_size = 8});
  EXPECT_EQ(last["swa_eval_loss"], now.metrics["eval_loss"]);
  EXPECT_FALSE(f.trainer.history().rows().front().metrics.find("swa_eval_loss"));
}

TEST(Swa, LeavesTheRunAsItWouldBeWithoutIt) {
  const auto train = [](bool with) {
    torch::manual_seed(3);
    Fixture f(normed_net(), {.start_epoch = 1,
                             .evaluate = with,
                             .replace_at_end = false,
                             .batch_norm_dataset = rows(16, 4)});
    f.run(3);
    return std::pair(f.trainer.history().values("eval_loss"), ta::named_tensors(*f.net));
  };
  const auto [losses, tensors] = train(true);
  const auto [expected_losses, expected] = train(false);
  EXPECT_EQ(losses, expected_losses);
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(torch::equal(tensor, expected[name]));
}

TEST(Swa, GoesOnFromItsState) {
  Fixture first(plain_net(), {.start_epoch = 1, .replace_at_end = false});
  first.run(2);
  const auto state = first.swa().state();
  Fixture second(plain_net(), {.start_epoch = 1});
  second.swa().load_state(state);
  second.run(1);
  EXPECT_EQ(second.swa().averaged_epochs(), 3);
  const auto& average = state.tensor("average/0.weight");
  const auto expected = (2 * average + second.kept()[0]["0.weight"]) / 3;
  EXPECT_TRUE(torch::allclose(second.net->parameters()[0], expected, 1e-12, 1e-14));

  Fixture other(normed_net(), {.start_epoch = 1, .batch_norm_dataset = rows(8)});
  other.swa().load_state(state);
  EXPECT_THROW(other.run(1), ta::StateError);
  EXPECT_THROW(other.swa().load_state({}), ta::StateError);
}

TEST(Swa, BeginsAnewAfterARunThatFailedWhileItWentOnAndFromAStateOfNoRun) {
  Fixture first(plain_net(), {.start_epoch = 1, .replace_at_end = false});
  const auto fresh = first.swa().state();
  first.run(2);
  Fixture second(plain_net(), {.start_epoch = 1});
  second.trainer.callbacks().add(FailsAfterLoading<ta::Swa>(first.swa().state()));
  EXPECT_THROW(second.run(1), ta::UserCodeError);
  second.run(1);
  EXPECT_EQ(second.swa().averaged_epochs(), 1);

  second.swa().load_state(fresh);
  second.run(2);
  EXPECT_EQ(second.swa().averaged_epochs(), 2);
}

TEST(Swa, RefusesOptionsAndRunsThatItCannotAverage) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] {
                ta::Swa({.start_epoch = 0,
                         .start_fraction = 1.0,
                         .every_epochs = 0,
                         .prefix = "eval_",
                         .batch_norm_batch_size = 0});
              }),
              AllOf(HasSubstr("Swa: start_epoch must be >= 1, got 0"),
                    HasSubstr("start_fraction must be in [0, 1), got 1"),
                    HasSubstr("every_epochs must be >= 1, got 0"),
                    HasSubstr("batch_norm_batch_size must be >= 1, got 0"), HasSubstr("prefix")));
  Fixture f(normed_net(), {.start_epoch = 5});
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.run(4); }),
              AllOf(HasSubstr("start_epoch is 5, the run has 4 epochs"),
                    HasSubstr("set batch_norm_dataset to some of the training data")));
  EXPECT_EQ(f.trainer.progress().update, 0);
}

}  // namespace
}  // namespace tests::swa_test
