// SPDX-License-Identifier: Apache-2.0
// The order of events of whole runs, as docs/events.md tells it.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::event_trace_test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

struct Tracing {
  explicit Tracing(ta::LossFunction loss = torch::nn::MSELoss())
      : optimizer(sgd(net)),
        trainer(net, std::move(loss), optimizer, ta::CallbackList(RecordingCallback(trace))) {}

  std::vector<std::string> trace;
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer;
  ta::Trainer trainer;
};

const std::vector<std::string> kOneEpoch = {
    "on_init_end",
    "on_training_run_start",
    "on_train_epoch_start 1",
    "on_train_step_start 0",
    "on_train_step_end 0 of update 0",
    "on_train_step_start 1",
    "on_train_step_end 1 update 1",
    "on_train_step_start 2",
    "on_train_step_end 2 update 2",
    "on_train_epoch_end 1",
    "on_eval_epoch_start 1",
    "on_eval_step_start 0",
    "on_eval_step_end 0",
    "on_eval_step_start 1",
    "on_eval_step_end 1",
    "on_eval_epoch_end 1",
    "on_training_run_epoch_end 1",
    "on_training_run_end",
};

TEST(EventTrace, OfAWholeRun) {
  Tracing run;
  run.trainer.train(tiny_batch(10), {.num_epochs = 1,
                                     .eval_dataset = tiny_batch(5),
                                     .per_device_batch_size = 4,
                                     .gradient_accumulation_steps = 2});
  EXPECT_THAT(run.trace, ElementsAreArray(kOneEpoch));
}

TEST(EventTrace, OfASecondRunHasNoInitEnd) {
  Tracing run;
  const ta::TrainOptions options{.num_epochs = 1, .per_device_batch_size = 4};
  run.trainer.train(tiny_batch(4), options);
  run.trace.clear();
  run.trainer.train(tiny_batch(4), options);
  EXPECT_THAT(run.trace, ElementsAre("on_training_run_start", "on_train_epoch_start 1",
                                     "on_train_step_start 0", "on_train_step_end 0 update 1",
                                     "on_train_epoch_end 1", "on_training_run_epoch_end 1",
                                     "on_training_run_end"));
}

TEST(EventTrace, OfAnEvaluationAlone) {
  Tracing run;
  run.trainer.evaluate(tiny_batch(3), {.per_device_batch_size = 2});
  EXPECT_THAT(run.trace,
              ElementsAre("on_init_end", "on_evaluation_run_start", "on_eval_epoch_start 0",
                          "on_eval_step_start 0", "on_eval_step_end 0", "on_eval_step_start 1",
                          "on_eval_step_end 1", "on_eval_epoch_end 0", "on_evaluation_run_end"));
}

TEST(EventTrace, OfAStopEndsAfterTheUpdateAndTellsTheReason) {
  Tracing run;
  run.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.micro_batch == 0) trainer.request_stop("enough");
  }));
  const auto result = run.trainer.train(
      tiny_batch(40),
      {.num_epochs = 5, .per_device_batch_size = 4, .gradient_accumulation_steps = 2});
  EXPECT_THAT(run.trace,
              ElementsAre("on_init_end", "on_training_run_start", "on_train_epoch_start 1",
                          "on_train_step_start 0", "on_train_step_end 0 of update 0",
                          "on_train_step_start 1", "on_train_step_end 1 update 1",
                          "on_stop_training_error enough", "on_training_run_end"));
  EXPECT_EQ(result.stop_reason, "enough");
  EXPECT_TRUE(result.was_stopped());
  EXPECT_EQ(result.progress.update, 1);
}

TEST(EventTrace, OfAStopAtAnEpochsEndKeepsTheEpoch) {
  Tracing run;
  run.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.micro_batch == 1) trainer.request_stop("enough");
  }));
  const auto result =
      run.trainer.train(tiny_batch(8), {.num_epochs = 5, .per_device_batch_size = 4});
  EXPECT_THAT(run.trace, testing::Contains("on_training_run_epoch_end 1"));
  EXPECT_EQ(run.trainer.history().rows().size(), 1U);
  EXPECT_EQ(result.progress.epoch, 1);
}

TEST(EventTrace, OfStartStepAndFinishIsThatOfTrain) {
  Tracing run;
  const auto all = tiny_batch(10);
  run.trainer.start({.eval_dataset = tiny_batch(5),
                     .eval_per_device_batch_size = 4,
                     .gradient_accumulation_steps = 2});
  for (std::int64_t begin = 0; begin < 10; begin += 4) {
    run.trainer.step({{"data", all["data"].slice(0, begin, begin + 4)},
                      {"target", all["target"].slice(0, begin, begin + 4)}});
  }
  run.trainer.finish();
  // The program, not the loader, knows that the third is the last: its update comes with finish().
  auto expected = kOneEpoch;
  expected[8] = "on_train_step_end 2 of update 1";
  EXPECT_THAT(run.trace, ElementsAreArray(expected));
}

TEST(EventTrace, CallbacksComeInTheOrderOfTheList) {
  std::vector<std::string> order;
  class First : public ta::Callback {
   public:
    explicit First(std::vector<std::string>& to) : to_(&to) {}
    void on_init_end(ta::Trainer&, const ta::InitEnd&) override { to_->push_back("first"); }
    std::vector<std::string>* to_;
  };
  class Second : public First {
   public:
    using First::First;
    void on_init_end(ta::Trainer&, const ta::InitEnd&) override { to_->push_back("second"); }
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(First(order), Second(order)));
  trainer.evaluate(tiny_batch(3));
  EXPECT_THAT(order, ElementsAre("first", "second"));
}

TEST(CallbackList, RefusesTwoOfOneNameAndTakesThemNamedApart) {
  class Named : public ta::Callback {
   public:
    explicit Named(std::string name) : name_(std::move(name)) {}
    std::string name() const override { return name_; }
    std::string name_;
  };
  ta::CallbackList list(Named("a"), Named("b"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { list.add(Named("a")); }),
              testing::HasSubstr("'a' already"));
  EXPECT_EQ(list.size(), 2U);
  EXPECT_EQ(list.find<Named>()->name(), "a");
  std::vector<std::string> trace;
  list.add(RecordingCallback(trace));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { list.add(RecordingCallback(trace)); }),
              testing::HasSubstr("RecordingCallback"));
}

}  // namespace
}  // namespace tests::event_trace_test
