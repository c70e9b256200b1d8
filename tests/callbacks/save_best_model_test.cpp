// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/save_best_model.h"

#include <gmock/gmock.h>

#include <limits>

#include "callbacks/fails_after_loading.h"
#include "core/named_tensors.h"
#include "support/tiny.h"

namespace tests::save_best_model_test {
namespace {

using testing::HasSubstr;

/// Sets all weights to the epoch's number, and the metric to what a test asks for.
struct Fixture {
  explicit Fixture(std::vector<double> levels_, ta::SaveBestModelOptions options = {})
      : levels(std::move(levels_)) {
    options.metric = "eval_level";
    trainer.callbacks().add(ta::SaveBestModel(options));
    trainer.add_metric("level", [this](const ta::TensorDict&, const ta::Batch&) {
      const auto epoch = static_cast<std::size_t>(trainer.progress().epoch);
      return ta::Mean(torch::tensor(levels[epoch - 1], torch::kFloat64));
    });
    trainer.callbacks().add(AtStepEnd([this](ta::Trainer&, const ta::TrainStepEnd& event) {
      const torch::NoGradGuard no_grad;
      for (const auto& [name, tensor] : ta::named_tensors(*net)) {
        tensor.fill_(static_cast<double>(event.epoch));
      }
    }));
  }

  ta::RunResult run() {
    return trainer.train(tiny_batch(8), {.num_epochs = static_cast<std::int64_t>(levels.size()),
                                         .eval_dataset = tiny_batch(8),
                                         .per_device_batch_size = 8});
  }

  ta::SaveBestModel& callback() { return *trainer.callbacks().find<ta::SaveBestModel>(); }
  double weight() const { return net->parameters()[0].data()[0][0].item<double>(); }
  double statistic() const { return net->buffers()[0][0].item<double>(); }

  std::vector<double> levels;
  torch::nn::Sequential net{torch::nn::Linear(4, 3), torch::nn::BatchNorm1d(3)};
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(SaveBestModel, PutsTheBestEpochsParametersAndBuffersBack) {
  Fixture lower({3, 1, kNaN, 2});
  lower.run();
  EXPECT_EQ(lower.weight(), 2);
  EXPECT_EQ(lower.statistic(), 2);
  EXPECT_EQ(lower.callback().best()->value, 1);
  EXPECT_EQ(lower.callback().best()->epoch, 2);

  Fixture higher({3, 1, 2}, {.direction = ta::Better::kHigher});
  higher.run();
  EXPECT_EQ(higher.weight(), 1);

  Fixture kept({3, 1, 2}, {.reload_at_end = false});
  kept.run();
  EXPECT_EQ(kept.weight(), 3);
  EXPECT_EQ(kept.callback().best_weights()["0.weight"][0][0].item<double>(), 2);

  Fixture never({kNaN, kNaN});
  never.run();
  EXPECT_EQ(never.weight(), 2);
}

TEST(SaveBestModel, ForgetsTheRunBeforeUnlessToldOtherwise) {
  for (const bool reset : {true, false}) {
    Fixture f({1, 2}, {.reset_on_train = reset});
    f.run();
    f.levels = {3, 4, 5};
    f.run();
    EXPECT_EQ(f.callback().best()->value, reset ? 3 : 1);
  }
}

TEST(SaveBestModel, GoesOnFromItsState) {
  Fixture first({3, 1, 2}, {.reload_at_end = false});
  first.run();
  const auto state = first.callback().state();
  Fixture second({9, 9, 9});
  second.callback().load_state(state);
  second.run();
  EXPECT_EQ(second.weight(), 2);
  EXPECT_EQ(second.callback().best()->epoch, 2);

  // Of another model.
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::SaveBestModel callback({.metric = "eval_level"});
  callback.load_state(state);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(std::move(callback)));
  trainer.add_metric("level", [](const ta::TensorDict& outputs, const ta::Batch&) {
    return outputs.only().mean();
  });
  EXPECT_THAT(message_of<ta::StateError>([&] {
                trainer.train(tiny_batch(8), {.num_epochs = 1, .eval_dataset = tiny_batch(4)});
              }),
              HasSubstr("SaveBestModel: '0.weight' has shape [3, 4], expected [5, 4]"));
}

TEST(SaveBestModel, BeginsAnewAfterARunThatFailedWhileItWentOn) {
  Fixture first({3, 1, 2});
  first.run();
  Fixture second({9, 9});
  second.trainer.callbacks().add(FailsAfterLoading<ta::SaveBestModel>(first.callback().state()));
  EXPECT_THROW(second.run(), ta::UserCodeError);
  second.run();
  EXPECT_EQ(second.callback().best()->value, 9);
}

TEST(SaveBestModel, RefusesAMetricThatWillNotBe) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(ta::SaveBestModel()));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), {.num_epochs = 1}); }),
      HasSubstr("eval_... need an eval_dataset"));
  EXPECT_THROW(ta::SaveBestModel({.metric = ""}), ta::ArgumentError);
}

}  // namespace
}  // namespace tests::save_best_model_test
