// SPDX-License-Identifier: Apache-2.0
// What a step, a source or a callback throws becomes one typed error that says where.
#include <gmock/gmock.h>

#include "support/tiny_trainer.h"

namespace tests::user_code_error_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(UserCodeError, AFailureOfTheFirstStepTellsTheBatchAndTheParameters) {
  TinyTrainer f;
  const ta::Batch wrong{{"data", torch::ones({4, 9}, torch::kFloat64)},
                        {"target", torch::ones({4, 3})}};
  EXPECT_THAT(message_of<ta::UserCodeError>(
                  [&] { f.trainer.train(wrong, {.num_epochs = 1, .per_device_batch_size = 4}); }),
              AllOf(HasSubstr("train_step failed at epoch 1, update 0"),
                    HasSubstr("data: double [4, 9]"), HasSubstr("parameter is float")));
}

struct Mine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST(UserCodeError, ASourceThatThrowsIsNotBlamedOnACallback) {
  class Throwing : public ta::BatchSource {
   public:
    std::optional<ta::Batch> next() override {
      if (++calls_ > 2) throw std::runtime_error("the wire is cut");
      return tiny_batch(4);
    }
    int calls_ = 0;
  };
  TinyTrainer f;
  Throwing source;
  EXPECT_THAT(message_of<ta::UserCodeError>([&] { f.trainer.train(source, {.num_epochs = 1}); }),
              AllOf(testing::StartsWith("train failed at epoch 1"), HasSubstr("the wire is cut")));
}

TEST(UserCodeError, WhatACallbackThrowsIsNestedInATypedError) {
  TinyTrainer f;
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer&, const ta::TrainStepEnd& event) {
    if (event.updates == 2) throw Mine("out of cheese");
  }));
  bool nested = false;
  try {
    f.trainer.train(tiny_batch(40), {.num_epochs = 1, .per_device_batch_size = 4});
  } catch (const ta::UserCodeError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("on_train_step_end"), HasSubstr("epoch 1, update 2"),
                                    HasSubstr("out of cheese")));
    try {
      std::rethrow_if_nested(error);
    } catch (const Mine&) {
      nested = true;
    }
  }
  EXPECT_TRUE(nested);
}

TEST(UserCodeError, WhatIsNoExceptionIsTypedToo) {
  TinyTrainer f;
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer&, const ta::TrainStepEnd&) { throw 42; }));
  EXPECT_THAT(
      message_of<ta::UserCodeError>([&] { f.trainer.train(tiny_batch(4), {.num_epochs = 1}); }),
      HasSubstr("no std::exception"));
}

// Throws at one event.
class ThrowsAt : public ta::Callback {
 public:
  explicit ThrowsAt(std::string event) : event_(std::move(event)) {}
  void on_init_end(ta::Trainer&, const ta::InitEnd& e) override { act(e); }
  void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart& e) override { act(e); }
  void on_train_epoch_start(ta::Trainer&, const ta::TrainEpochStart& e) override { act(e); }
  void on_train_step_start(ta::Trainer&, const ta::TrainStepStart& e) override { act(e); }
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& e) override { act(e); }
  void on_train_epoch_end(ta::Trainer&, const ta::TrainEpochEnd& e) override { act(e); }
  void on_eval_epoch_start(ta::Trainer&, const ta::EvalEpochStart& e) override { act(e); }
  void on_eval_step_start(ta::Trainer&, const ta::EvalStepStart& e) override { act(e); }
  void on_eval_step_end(ta::Trainer&, const ta::EvalStepEnd& e) override { act(e); }
  void on_eval_epoch_end(ta::Trainer&, const ta::EvalEpochEnd& e) override { act(e); }
  void on_training_run_epoch_end(ta::Trainer&, const ta::TrainingRunEpochEnd& e) override {
    act(e);
  }
  void on_training_run_end(ta::Trainer&, const ta::TrainingRunEnd& e) override { act(e); }
  void on_stop_training_error(ta::Trainer&, const ta::StopTrainingError& e) override { act(e); }
  void on_evaluation_run_start(ta::Trainer&, const ta::EvaluationRunStart& e) override { act(e); }
  void on_evaluation_run_end(ta::Trainer&, const ta::EvaluationRunEnd& e) override { act(e); }

 private:
  template <class Event>
  void act(const Event&) const {
    if (event_ == Event::kName) throw std::runtime_error("thrown on purpose");
  }
  std::string event_;
};

class ThrownAt : public testing::TestWithParam<const char*> {};

TEST_P(ThrownAt, EndsTheRunAndLeavesTheTrainerUsable) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(ThrowsAt(GetParam())));
  const ta::TrainOptions options{.num_epochs = 1,
                                 .eval_dataset = tiny_batch(4),
                                 .per_device_batch_size = 4,
                                 .scheduler = ta::cosine()};
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (attempt == 1 && std::string(GetParam()) == "on_init_end") break;
    const auto message =
        message_of<ta::UserCodeError>([&] { trainer.train(tiny_batch(8), options); });
    EXPECT_THAT(message, AllOf(HasSubstr(GetParam()), HasSubstr("thrown on purpose")));
    EXPECT_TRUE(net->is_training());
    EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.1);
  }
}

TEST(UserCodeError, WhatIsThrownAtAStopOrInAnEvaluationAloneIsTyped) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  const auto thrown_at = [&](const char* event, const auto& run) {
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(ThrowsAt(event)));
    EXPECT_THAT(message_of<ta::UserCodeError>([&] { run(trainer); }), HasSubstr(event));
  };
  thrown_at("on_stop_training_error", [](ta::Trainer& trainer) {
    trainer.callbacks().add(AtStepEnd(
        [](ta::Trainer& own, const ta::TrainStepEnd&) { own.request_stop("to throw there"); }));
    trainer.train(tiny_batch(4), {.num_epochs = 1});
  });
  const auto evaluate = [](ta::Trainer& trainer) { trainer.evaluate(tiny_batch(4)); };
  thrown_at("on_evaluation_run_start", evaluate);
  thrown_at("on_evaluation_run_end", evaluate);
  EXPECT_TRUE(net->is_training());
}

INSTANTIATE_TEST_SUITE_P(Event, ThrownAt,
                         testing::Values("on_init_end", "on_training_run_start",
                                         "on_train_epoch_start", "on_train_step_start",
                                         "on_train_step_end", "on_train_epoch_end",
                                         "on_eval_epoch_start", "on_eval_step_start",
                                         "on_eval_step_end", "on_eval_epoch_end",
                                         "on_training_run_epoch_end", "on_training_run_end"));

}  // namespace
}  // namespace tests::user_code_error_test
