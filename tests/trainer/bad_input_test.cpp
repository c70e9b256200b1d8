// SPDX-License-Identifier: Apache-2.0
// What is wrong with a call is told in one typed error that names the value and the cure.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::bad_input_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Fixture {
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  std::vector<std::string> trace;
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(RecordingCallback(trace))};

  std::string refusal(ta::TrainOptions options, std::int64_t rows = 8) {
    return message_of<ta::ArgumentError>(
        [&] { trainer.train(tiny_batch(rows), std::move(options)); });
  }
};

TEST(BadInput, OptionsAreToldAllAtOnceAndBeforeAnyEvent) {
  Fixture f;
  const auto message = f.refusal({.num_epochs = 0,
                                  .per_device_batch_size = -3,
                                  .global_batch_size = 0,
                                  .eval_per_device_batch_size = 0,
                                  .max_updates = 0,
                                  .gradient_accumulation_steps = 0,
                                  .clip_gradient_norm = 0.0,
                                  .clip_gradient_value = std::nan(""),
                                  .train_loader = {.num_workers = -1, .prefetch_batches = 0},
                                  .limit_train_batches = 0,
                                  .limit_eval_batches = -1});
  for (const char* part :
       {"num_epochs must be >= 1, got 0", "per_device_batch_size must be >= 1, got -3",
        "global_batch_size must be >= 1, got 0", "are both given",
        "eval_per_device_batch_size must be >= 1, got 0", "max_updates must be >= 1, got 0",
        "gradient_accumulation_steps must be >= 1, got 0", "clip_gradient_norm must be > 0, got 0",
        "clip_gradient_value must be > 0, got nan", "train_loader.num_workers must be >= 0, got -1",
        "train_loader.prefetch_batches must be >= 1, got 0",
        "limit_train_batches must be >= 1, got 0", "limit_eval_batches must be >= 1, got -1"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
  EXPECT_TRUE(f.trace.empty());
}

TEST(BadInput, AGlobalBatchThatCannotBeCut) {
  Fixture f;
  EXPECT_THAT(
      f.refusal({.num_epochs = 1, .global_batch_size = 10, .gradient_accumulation_steps = 4}),
      HasSubstr("global_batch_size 10 can't be cut into 4"));
}

TEST(BadInput, EmptyDatasets) {
  Fixture f;
  EXPECT_THAT(f.refusal({.num_epochs = 1}, 0), HasSubstr("the training dataset is empty"));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { f.trainer.train(ta::Dataset(), {.num_epochs = 1}); }),
      HasSubstr("the training dataset is empty"));
  EXPECT_THAT(f.refusal({.num_epochs = 1, .eval_dataset = tiny_batch(0)}),
              HasSubstr("eval_dataset is empty"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.trainer.evaluate(tiny_batch(0)); }),
              HasSubstr("the dataset is empty"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                f.trainer.evaluate(tiny_batch(4), {.per_device_batch_size = 0, .limit_batches = 0});
              }),
              AllOf(HasSubstr("per_device_batch_size must be >= 1, got 0"),
                    HasSubstr("limit_batches must be >= 1, got 0")));
}

TEST(BadInput, DropLastThatLeavesNothing) {
  Fixture f;
  EXPECT_THAT(
      f.refusal(
          {.num_epochs = 1, .per_device_batch_size = 16, .train_loader = {.drop_last = true}}),
      HasSubstr("drop_last"));
}

TEST(BadInput, ASourceWithoutBatches) {
  Fixture f;
  ListSource source({});
  EXPECT_THAT(message_of<ta::DataError>([&] { f.trainer.train(source, {.num_epochs = 1}); }),
              HasSubstr("start_epoch()"));
  EXPECT_THAT(message_of<ta::DataError>([&] { f.trainer.evaluate(source); }),
              HasSubstr("start_epoch()"));
}

TEST(BadInput, AModelWithoutParameters) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(torch::nn::Sequential(torch::nn::ReLU()), torch::nn::MSELoss(), optimizer,
                      ta::CallbackList());
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
      AllOf(HasSubstr("the model has no parameters"), HasSubstr("holds none")));
}

TEST(BadInput, AnOptimizerThatHoldsATensorTwice) {
  auto net = tiny_net();
  auto parameters = net->parameters();
  parameters.push_back(parameters[2]);
  torch::optim::SGD optimizer(parameters, 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
      AllOf(HasSubstr("'2.weight'"), HasSubstr("twice")));
}

TEST(BadInput, ALossThatIsNoScalarOrHasNoGraph) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  const auto refusal = [&](ta::LossFunction loss) {
    ta::Trainer trainer(net, std::move(loss), optimizer, ta::CallbackList());
    return message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(4), {.num_epochs = 1}); });
  };
  EXPECT_THAT(refusal([](const torch::Tensor& output, const torch::Tensor& target) {
                return (output - target).square();
              }),
              HasSubstr("shape [4, 3], a scalar is wanted"));
  EXPECT_THAT(refusal([](const torch::Tensor& output, const torch::Tensor& target) {
                return torch::mse_loss(output.detach(), target);
              }),
              HasSubstr("no graph"));
}

TEST(BadInput, LengthsMeantAsUntilStoppedDoNotOverflow) {
  Fixture f;
  constexpr auto kForever = std::numeric_limits<std::int64_t>::max();
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 3) trainer.request_stop("enough");
  }));
  const auto result = f.trainer.train(tiny_batch(8), {.num_epochs = kForever,
                                                      .per_device_batch_size = 4,
                                                      .max_updates = kForever,
                                                      .gradient_accumulation_steps = 2,
                                                      .scheduler = ta::cosine()});
  EXPECT_EQ(result.progress.update, 3);
  EXPECT_EQ(f.trainer.run_config().total_updates, kForever);
  f.trainer.train(tiny_batch(8), {.num_epochs = kForever,
                                  .per_device_batch_size = 4,
                                  .accumulation_schedule = {{2, 2}, {3, 1}}});
  EXPECT_EQ(f.trainer.run_config().total_updates, kForever);
}

TEST(BadInput, ALoaderThatAnOverrideDoesNotMake) {
  class NoLoaders : public ta::Trainer {
   public:
    using Trainer::Trainer;

   protected:
    std::unique_ptr<ta::BatchSource> create_train_dataloader(
        ta::Dataset, const ta::DataLoaderOptions&) override {
      return nullptr;
    }
    std::unique_ptr<ta::BatchSource> create_eval_dataloader(ta::Dataset,
                                                            const ta::DataLoaderOptions&) override {
      return nullptr;
    }
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  NoLoaders trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  EXPECT_THAT(message_of<ta::StateError>([&] { trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
              HasSubstr("create_train_dataloader returned null"));
  EXPECT_THAT(message_of<ta::StateError>([&] { trainer.evaluate(tiny_batch(4)); }),
              HasSubstr("create_eval_dataloader returned null"));
}

TEST(BadInput, WhatNeedsAClosureOrIsEmpty) {
  auto net = tiny_net();
  torch::optim::LBFGS optimizer(net->parameters(), 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
      HasSubstr("LBFGS"));
  using Function = std::function<ta::Mean(const ta::TensorDict&, const ta::Batch&)>;
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::LossFunction loss{Function()}; }),
              HasSubstr("empty"));
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::Metric metric{Function()}; }),
              HasSubstr("empty"));
}

TEST(BadInput, LabelsOutOfRangeInATrainingBatch) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::CrossEntropyLoss(), optimizer, ta::CallbackList());
  const ta::Batch wrong{{"data", torch::ones({4, 4})}, {"target", torch::tensor({0, 1, 2, 3})}};
  EXPECT_THAT(message_of<ta::UserCodeError>([&] { trainer.train(wrong, {.num_epochs = 1}); }),
              AllOf(HasSubstr("Target 3 is out of bounds"), HasSubstr("target: long int [4]")));
}

TEST(BadInput, LoadersOfEvaluationsAreCheckedWithTheRest) {
  Fixture f;
  EXPECT_THAT(
      f.refusal({.num_epochs = 0,
                 .eval_dataset = tiny_batch(3),
                 .per_device_batch_size = 16,
                 .train_loader = {.drop_last = true},
                 .eval_loader = {.drop_last = true}}),
      AllOf(HasSubstr("num_epochs"), HasSubstr("train_loader.drop_last leaves nothing of 8"),
            HasSubstr("eval_loader.drop_last leaves nothing of 3")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                f.trainer.evaluate(tiny_batch(3),
                                   {.loader = {.drop_last = true, .num_workers = -1}});
              }),
              AllOf(HasSubstr("loader.num_workers must be >= 0, got -1"),
                    HasSubstr("loader.drop_last leaves nothing of 3")));
  EXPECT_TRUE(f.trace.empty());
}

TEST(BadInput, NamesThatAreTaken) {
  Fixture f;
  f.trainer.register_module("other", tiny_net(8));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { f.trainer.register_module("other", tiny_net(8)); }),
      HasSubstr("'other' is taken"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.trainer.register_module("", tiny_net(8)); }),
              HasSubstr("not empty"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.trainer.add_optimizer("same", f.optimizer); }),
              HasSubstr("add each once"));
  f.trainer.add_metric("accuracy", ta::accuracy());
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { f.trainer.add_metric("accuracy", ta::accuracy()); }),
      HasSubstr("'accuracy' is taken"));
}

}  // namespace
}  // namespace tests::bad_input_test
