// SPDX-License-Identifier: Apache-2.0
// What a run writes into the history, and which names can be watched.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::history_rows_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsSupersetOf;

TEST(HistoryRows, HaveRatesThroughputTimeLeftAndTheNormWhereAsked) {
  auto net = tiny_net();
  torch::optim::SGD optimizer({net[0]->parameters()}, torch::optim::SGDOptions(0.1));
  optimizer.add_param_group(torch::optim::OptimizerParamGroup(
      net[2]->parameters(), std::make_unique<torch::optim::SGDOptions>(0.01)));
  auto critic = tiny_net(8);
  auto second = sgd(critic, 0.5);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  trainer.register_module("critic", critic);
  trainer.add_optimizer("critic", second);
  trainer.train(tiny_batch(8), {.num_epochs = 2, .track_gradient_norm = true});
  const auto& rows = trainer.history().rows();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].metrics["learning_rate"], 0.1);
  EXPECT_EQ(rows[0].metrics["learning_rate_1"], 0.01);
  EXPECT_GT(rows[0].metrics["rows_per_second"], 0);
  EXPECT_GT(rows[0].metrics["eta_seconds"], 0);
  EXPECT_EQ(rows[1].metrics["eta_seconds"], 0);
  EXPECT_GT(rows[1].metrics["train_gradient_norm"], 0);
}

TEST(HistoryRows, GoIntoAHistoryOfTheProgramsOwn) {
  struct Counting : ta::InMemoryHistory {
    explicit Counting(int& appended_) : appended(&appended_) {}
    void append(ta::HistoryRow row) override {
      ++*appended;
      InMemoryHistory::append(std::move(row));
    }
    int* appended;
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  int appended = 0;
  trainer.use_history(std::make_unique<Counting>(appended));
  trainer.train(tiny_batch(8), {.num_epochs = 3});
  EXPECT_EQ(appended, 3);
  EXPECT_EQ(trainer.history().latest("train_loss"),
            trainer.history().rows().back().metrics["train_loss"]);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { trainer.use_history(nullptr); }),
              HasSubstr("it is null"));
}

/// Asks for a metric by a name, as callbacks do that watch one.
class Watching : public ta::Callback {
 public:
  explicit Watching(std::string metric) : metric_(std::move(metric)) {}
  void on_training_run_start(ta::Trainer& trainer, const ta::TrainingRunStart&) override {
    trainer.require_metric("Watching", metric_);
  }

 private:
  std::string metric_;
};

TEST(MetricNames, ThatNoRowCanHaveAreRefusedBeforeTrainingWithTheNearest) {
  const auto message = [](const std::string& name, bool evaluates) {
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(Watching(name)));
    trainer.add_metric("error", [](const ta::TensorDict& outputs, const ta::Batch& batch) {
      return ta::Mean((outputs.only() - batch["target"]).abs().mean());
    });
    ta::TrainOptions options{.num_epochs = 1};
    if (evaluates) options.eval_dataset = tiny_batch(4);
    const auto text = message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), options); });
    EXPECT_EQ(trainer.progress().update, text.empty() ? 1 : 0);
    const auto names = trainer.metric_names();
    if (evaluates) {
      EXPECT_THAT(names, IsSupersetOf({"train_loss", "eval_loss", "eval_error"}));
    }
    return text;
  };
  EXPECT_EQ(message("eval_error", true), "");
  EXPECT_THAT(message("eval_eror", true),
              AllOf(HasSubstr("Watching"), HasSubstr("did you mean 'eval_error'?")));
  EXPECT_THAT(message("eval_loss", false), HasSubstr("eval_... need an eval_dataset"));
}

// Rates of further groups and optimizers have names too.
TEST(MetricNames, NameEveryRate) {
  auto net = tiny_net();
  torch::optim::SGD optimizer(
      std::vector<torch::optim::OptimizerParamGroup>{net[0]->as<torch::nn::Linear>()->parameters(),
                                                     net[2]->as<torch::nn::Linear>()->parameters()},
      torch::optim::SGDOptions(0.1));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(Watching("learning_rate_1")));
  EXPECT_EQ(trainer.train(tiny_batch(8), {.num_epochs = 1}).progress.update, 1);
}

/// Writes metrics of the names given.
class Writing : public ta::Callback {
 public:
  Writing(std::string name, std::vector<std::string> metrics)
      : name_(std::move(name)), metrics_(std::move(metrics)) {}
  std::string name() const override { return name_; }
  std::vector<std::string> metric_names(const ta::Trainer&) const override { return metrics_; }

 private:
  std::string name_;
  std::vector<std::string> metrics_;
};

class AlsoWriting : public Writing {
 public:
  using Writing::Writing;
};

TEST(MetricNames, OfTwoWritersAreRefusedBeforeTraining) {
  const auto message = [](std::vector<std::string> first, std::vector<std::string> second) {
    auto net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(
        net, torch::nn::MSELoss(), optimizer,
        ta::CallbackList(Writing("One", std::move(first)), AlsoWriting("Two", std::move(second))));
    return message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(8), {.num_epochs = 1}); });
  };
  EXPECT_EQ(message({"a"}, {"b"}), "");
  EXPECT_THAT(message({"a", "b"}, {"c", "b"}),
              AllOf(HasSubstr("Two"), HasSubstr("'b'"), HasSubstr("One")));
  EXPECT_THAT(message({}, {"train_loss"}), AllOf(HasSubstr("Two"), HasSubstr("the run itself")));
}

}  // namespace
}  // namespace tests::history_rows_test
