// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/learning_rate_finder.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "support/tiny.h"

namespace tests::learning_rate_finder_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Fixture {
  torch::nn::Sequential net{torch::nn::Linear(4, 8), torch::nn::BatchNorm1d(8), torch::nn::Tanh(),
                            torch::nn::Linear(8, 3)};
  ta::Batch data = learnable();

  static ta::Batch learnable(std::int64_t count = 64) {
    const ta::SeedScope scope(3);
    const auto rows = torch::randn({count, 4});
    return {{"data", rows}, {"target", rows.matmul(torch::randn({4, 3}))}};
  }

  ta::Trainer trainer(torch::optim::Optimizer& optimizer, ta::CallbackList callbacks = {}) {
    return {net, torch::nn::MSELoss(), optimizer, std::move(callbacks)};
  }

  std::vector<torch::Tensor> tensors() const {
    std::vector<torch::Tensor> copies;
    for (const auto& tensor : net->parameters()) copies.push_back(tensor.detach().clone());
    for (const auto& tensor : net->buffers()) copies.push_back(tensor.clone());
    return copies;
  }
};

bool equal(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), torch::equal);
}

ta::LearningRateFinderOptions sweep_of(std::int64_t updates) {
  return {.start_rate = 1e-5,
          .end_rate = 100,
          .updates = updates,
          .train = {.per_device_batch_size = 16}};
}

TEST(LearningRateFinder, SuggestsARateBelowTheOneAtWhichTheLossDiverges) {
  Fixture f;
  auto optimizer = torch::optim::SGD(f.net->parameters(), torch::optim::SGDOptions(0.1));
  auto trainer = f.trainer(optimizer);
  const auto options = sweep_of(100);
  const auto found = ta::find_learning_rate(trainer, f.data, options);
  ASSERT_TRUE(found.steepest_descent && found.tenth_of_minimum);
  EXPECT_TRUE(found.diverged);
  EXPECT_LT(found.rates.size(), 100U);
  EXPECT_LT(*found.steepest_descent, found.rates.back() / 2);
  EXPECT_GT(*found.steepest_descent, 1e-3);
  EXPECT_LT(*found.tenth_of_minimum, found.rates.back() / 10);
  double average = 0;
  for (std::size_t i = 0; i < found.rates.size(); ++i) {
    EXPECT_NEAR(found.rates[i] / (1e-5 * std::pow(1e7, static_cast<double>(i) / 99)), 1, 1e-12);
    average = 0.9 * average + 0.1 * found.losses[i];
    const double unbiased = average / (1 - std::pow(0.9, static_cast<double>(i + 1)));
    EXPECT_NEAR(found.smoothed_losses[i], unbiased, 1e-9 * unbiased);
  }
  EXPECT_THAT(found.svg(), AllOf(HasSubstr("<svg"), HasSubstr("smoothed")));

  // The suggestion is worth something: with it the loss falls more than with a rate far below.
  const auto loss_after = [&](double rate) {
    optimizer.param_groups()[0].options().set_lr(rate);
    const auto before = f.tensors();
    trainer.train(f.data, {.num_epochs = 5, .per_device_batch_size = 16});
    const double loss = trainer.history().latest("train_loss");
    const torch::NoGradGuard no_grad;
    auto parameters = f.net->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].copy_(before[i]);
    return loss;
  };
  EXPECT_LT(loss_after(*found.steepest_descent), 0.8 * loss_after(1e-4));
}

TEST(LearningRateFinder, IsNotMisledByTheNoiseOfSmallBatchesAtLowRates) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    torch::manual_seed(seed);
    Fixture f;
    f.data = Fixture::learnable(256);
    auto optimizer = torch::optim::SGD(f.net->parameters(), torch::optim::SGDOptions(0.1));
    auto trainer = f.trainer(optimizer);
    auto options = sweep_of(100);
    options.train.per_device_batch_size = 4;
    const auto found = ta::find_learning_rate(trainer, f.data, options);
    ASSERT_TRUE(found.steepest_descent && found.tenth_of_minimum);
    EXPECT_GT(*found.steepest_descent, 0.02) << seed;
    EXPECT_LT(*found.steepest_descent, 10 * *found.tenth_of_minimum) << seed;
  }
}

/// What a sweep over losses finds that are given and not trained for.
ta::LearningRateFinderResult found_in(const std::vector<double>& losses,
                                      ta::LearningRateFinderOptions options) {
  torch::nn::Linear net(4, 3);
  auto optimizer = torch::optim::SGD(net->parameters(), torch::optim::SGDOptions(0.1));
  std::size_t next = 0;
  const auto loss = [&](const torch::Tensor& output, const torch::Tensor&) {
    return output.mean().to(torch::kFloat64) * 0 + losses.at(next++);
  };
  ta::Trainer trainer(net, loss, optimizer, ta::CallbackList());
  options.updates = static_cast<std::int64_t>(losses.size());
  return ta::find_learning_rate(trainer, tiny_batch(16), options);
}

// The place of a rate among those of the sweep; -1 where there is none.
std::ptrdiff_t place(const std::optional<double>& rate, const ta::LearningRateFinderResult& found) {
  if (!rate) return -1;
  return std::find(found.rates.begin(), found.rates.end(), *rate) - found.rates.begin();
}

std::vector<double> curve(std::size_t count, const std::function<double(double)>& loss_at) {
  std::vector<double> losses;
  for (std::size_t i = 0; i < count; ++i) losses.push_back(loss_at(static_cast<double>(i)));
  return losses;
}

TEST(LearningRateFinder, SuggestsARateWithinTheFallWhereverThatIs) {
  const ta::LearningRateFinderOptions exact{.smoothing = 0};
  const auto step = curve(100, [](double i) { return 1 / (1 + std::exp((i - 70) / 3)); });
  const auto late = found_in(step, exact);
  EXPECT_EQ(place(late.steepest_descent, late), 70);
  // From the first update on: a fifth of the way is done early.
  const auto straight = found_in(curve(100, [](double i) { return 3 - i / 50; }), exact);
  EXPECT_THAT(place(straight.steepest_descent, straight), AllOf(testing::Gt(10), testing::Lt(99)));
  const auto early = found_in(curve(100, [](double i) { return std::exp(-i / 20); }), exact);
  EXPECT_THAT(place(early.steepest_descent, early), AllOf(testing::Gt(10), testing::Lt(30)));
  // The lowest smoothed loss is the last one, and above the median.
  const auto drop = found_in(curve(100, [](double i) { return i < 5 ? 100 : 1; }), {});
  EXPECT_THAT(place(drop.steepest_descent, drop), AllOf(testing::Gt(10), testing::Lt(20)));
  const auto below_zero = found_in(curve(50, [](double i) { return -1 - i * i; }), exact);
  EXPECT_EQ(place(below_zero.steepest_descent, below_zero), 48);
  const auto linear = found_in(step, {.sweep = ta::RateSweep::kLinear, .smoothing = 0});
  EXPECT_EQ(place(linear.steepest_descent, linear), 70);
}

TEST(LearningRateFinder, OfAFewUpdatesSuggestsWhatTheyShow) {
  const auto three = found_in({2, 1.5, 1}, {.smoothing = 0});
  EXPECT_EQ(place(three.steepest_descent, three), 1);
  const auto lowest_at_once = found_in({1, 2, 3, 3.5, 3.9}, {.smoothing = 0});
  EXPECT_FALSE(lowest_at_once.steepest_descent || lowest_at_once.tenth_of_minimum);
  const auto two = found_in({2, 1}, {.smoothing = 0});
  EXPECT_FALSE(two.steepest_descent || two.tenth_of_minimum);
}

TEST(LearningRateFinder, SweepsLinearlyAndKeepsTheRatiosOfParamGroups) {
  Fixture f;
  torch::optim::SGD optimizer(
      {{f.net[0]->parameters(), std::make_unique<torch::optim::SGDOptions>(0.01)},
       {f.net[3]->parameters(), std::make_unique<torch::optim::SGDOptions>(0.04)}},
      torch::optim::SGDOptions(0.1));
  auto trainer = f.trainer(optimizer);
  auto options = sweep_of(11);
  options.end_rate = 1e-3;
  options.sweep = ta::RateSweep::kLinear;
  std::vector<double> ratios;
  trainer.add_metric(
      "ratio",
      [&](const ta::TensorDict&, const ta::Batch&) {
        const auto& groups = optimizer.param_groups();
        ratios.push_back(groups[1].options().get_lr() / groups[0].options().get_lr());
        return torch::zeros({});
      },
      ta::MetricPhases::kTrainingAndEvaluation);
  const auto found = ta::find_learning_rate(trainer, f.data, options);
  ASSERT_EQ(found.rates.size(), 11U);
  EXPECT_FALSE(found.diverged);
  EXPECT_NEAR(found.rates[5], 1e-5 + (1e-3 - 1e-5) / 2, 1e-15);
  EXPECT_THAT(ratios, testing::Each(testing::DoubleNear(4, 1e-12)));
  EXPECT_EQ(optimizer.param_groups()[1].options().get_lr(), 0.04);
}

// One after the other, each of which keeps state of its own kind.
TEST(LearningRateFinder, GivesEverythingBackForEachOptimizer) {
  using namespace torch::optim;
  const std::vector<std::function<std::unique_ptr<Optimizer>(std::vector<torch::Tensor>)>> makers{
      [](auto p) { return std::make_unique<SGD>(p, SGDOptions(0.01).momentum(0.9)); },
      [](auto p) { return std::make_unique<Adam>(p, AdamOptions(0.01).amsgrad(true)); },
      [](auto p) { return std::make_unique<AdamW>(p, AdamWOptions(0.01)); },
      [](auto p) { return std::make_unique<RMSprop>(p, RMSpropOptions(0.01).momentum(0.9)); },
      [](auto p) { return std::make_unique<Adagrad>(p, AdagradOptions(0.01)); }};
  for (const auto& make : makers) {
    const auto trained = [&](bool with_finder) {
      const ta::SeedScope scope(5);
      Fixture f;
      const auto optimizer = make(f.net->parameters());
      std::vector<std::string> trace;
      auto trainer = f.trainer(*optimizer, ta::CallbackList(RecordingCallback(trace)));
      trainer.train(f.data, {.num_epochs = 2});
      f.net->eval();
      const auto random = torch::rand({1});
      if (with_finder) {
        const auto before = f.tensors();
        const auto events = trace.size();
        ta::find_learning_rate(trainer, f.data, sweep_of(20));
        EXPECT_TRUE(equal(before, f.tensors()));
        EXPECT_FALSE(f.net->is_training() || f.net[1]->is_training());
        EXPECT_EQ(trace.size(), events);
        EXPECT_EQ(trainer.history().rows().size(), 2U);
        EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 0.01);
      }
      const auto next_random = torch::rand({1});  // the program's own generator is as it was
      trainer.train(f.data, {.num_epochs = 1});
      auto tensors = f.tensors();
      tensors.push_back(next_random);
      return tensors;
    };
    EXPECT_TRUE(equal(trained(false), trained(true)));
  }
}

// An optimizer of a program's own, with a state that LibTorch doesn't know.
struct CountState : torch::optim::OptimizerCloneableParamState<CountState> {
  torch::Tensor sum = torch::zeros({1});
  void serialize(torch::serialize::OutputArchive& archive) const override {
    archive.write("sum", sum);
  }
  void serialize(torch::serialize::InputArchive& archive) override { archive.read("sum", sum); }
};

struct Silent : torch::optim::OptimizerCloneableParamState<Silent> {};

template <class State>
class Counting : public torch::optim::SGD {
 public:
  using SGD::SGD;
  torch::Tensor step(LossClosure) override {
    for (const auto& parameter : param_groups()[0].params()) {
      auto& held = state()[parameter.unsafeGetTensorImpl()];
      if (!held) held = std::make_unique<State>();
      if (auto* counted = dynamic_cast<CountState*>(held.get())) counted->sum.add_(1);
    }
    return {};
  }
};

TEST(LearningRateFinder, CopiesAnUnknownOptimizersStateOrSaysThatItCanNot) {
  Fixture f;
  Counting<CountState> counting(f.net->parameters(), torch::optim::SGDOptions(0.1));
  auto trainer = f.trainer(counting);
  trainer.train(f.data, {.num_epochs = 1});
  ta::find_learning_rate(trainer, f.data, sweep_of(20));
  for (const auto& [key, state] : counting.state()) {
    EXPECT_EQ(dynamic_cast<const CountState&>(*state).sum.item<double>(), 8);
  }
  Counting<Silent> silent(f.net->parameters(), torch::optim::SGDOptions(0.1));
  auto other = f.trainer(silent);
  other.train(f.data, {.num_epochs = 1});
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { ta::find_learning_rate(other, f.data, sweep_of(20)); }),
      AllOf(HasSubstr("Silent"), HasSubstr("can't be copied")));
}

TEST(LearningRateFinder, GivesEverythingBackWhenTrainingThrows) {
  Fixture f;
  auto optimizer = torch::optim::SGD(f.net->parameters(), torch::optim::SGDOptions(0.1));
  std::vector<std::string> trace;
  auto trainer = f.trainer(optimizer, ta::CallbackList(RecordingCallback(trace)));
  int calls = 0;
  trainer.add_metric(
      "throws",
      [&](const ta::TensorDict&, const ta::Batch&) {
        if (++calls == 4) throw std::runtime_error("no more");
        return torch::zeros({});
      },
      ta::MetricPhases::kTrainingAndEvaluation);
  const auto before = f.tensors();
  EXPECT_THROW(ta::find_learning_rate(trainer, f.data, sweep_of(20)), ta::UserCodeError);
  EXPECT_TRUE(equal(before, f.tensors()));
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.1);
  EXPECT_TRUE(trainer.history().empty());
  EXPECT_THAT(trace, testing::ElementsAre("on_init_end"));
  trainer.train(f.data, {.num_epochs = 1});
  EXPECT_EQ(trainer.history().rows().size(), 1U);
  EXPECT_GT(trace.size(), 1U);
}

TEST(LearningRateFinder, LeavesOnInitEndToTheTrainersOwnCallbacks) {
  Fixture f;
  auto optimizer = torch::optim::SGD(f.net->parameters(), torch::optim::SGDOptions(0.1));
  std::vector<std::string> trace;
  auto trainer = f.trainer(optimizer, ta::CallbackList(RecordingCallback(trace)));
  ta::find_learning_rate(trainer, f.data, sweep_of(5));
  EXPECT_THAT(trace, testing::ElementsAre("on_init_end"));
}

// A loss that falls below zero and stays there doesn't diverge by being negative.
TEST(LearningRateFinder, TakesLossesBelowZeroAndStopsAtOnesThatAreNotFinite) {
  torch::nn::Linear net(4, 3);
  auto optimizer = torch::optim::SGD(net->parameters(), torch::optim::SGDOptions(0.1));
  const ta::Batch data = tiny_batch(16);
  const auto options = sweep_of(20);
  const auto found_with = [&](auto loss) {
    ta::Trainer trainer(net, loss, optimizer, ta::CallbackList());
    return ta::find_learning_rate(trainer, data, options);
  };
  const auto negative = found_with(
      [](const torch::Tensor& output, const torch::Tensor&) { return output.mean() * 0 - 5; });
  EXPECT_FALSE(negative.diverged);
  EXPECT_FALSE(negative.steepest_descent || negative.tenth_of_minimum);  // it never fell
  int calls = 0;
  const auto cut = found_with([&](const torch::Tensor& output, const torch::Tensor&) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return output.mean() * (++calls > 7 ? nan : 1.0);
  });
  EXPECT_TRUE(cut.diverged);
  EXPECT_EQ(cut.rates.size(), 7U);
}

TEST(LearningRateFinder, RefusesBadOptionsBeforeAnythingRuns) {
  Fixture f;
  auto optimizer = torch::optim::SGD(f.net->parameters(), torch::optim::SGDOptions(0.1));
  auto trainer = f.trainer(optimizer);
  const auto told = [&](const ta::LearningRateFinderOptions& options) {
    return message_of<ta::ArgumentError>([&] { ta::find_learning_rate(trainer, f.data, options); });
  };
  EXPECT_THAT(told({.start_rate = 0.1, .end_rate = 0.1}),
              HasSubstr("end_rate must be above start_rate, 0.1, got 0.1"));
  EXPECT_THAT(
      told({.start_rate = 0, .updates = 1, .smoothing = 1, .divergence_factor = 1}),
      AllOf(HasSubstr("start_rate must be > 0, got 0"), HasSubstr("updates must be >= 2, got 1"),
            HasSubstr("smoothing must be in"), HasSubstr("divergence_factor must be > 1, got 1")));
  EXPECT_THROW(trainer.run_config(), ta::StateError);  // no run has been started
  EXPECT_THAT(told({.train = {.per_device_batch_size = 0}}), HasSubstr("per_device_batch_size"));
  trainer.start({});
  EXPECT_THAT(
      message_of<ta::StateError>([&] { ta::find_learning_rate(trainer, f.data, sweep_of(5)); }),
      HasSubstr("a run is going on"));
  trainer.step(f.data);
  trainer.finish();
}

}  // namespace
}  // namespace tests::learning_rate_finder_test
