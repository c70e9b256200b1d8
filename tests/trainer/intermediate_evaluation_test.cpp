// SPDX-License-Identifier: Apache-2.0
// Evaluations in the middle of a run: they change nothing but the history.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::intermediate_evaluation_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Fixture {
  torch::nn::Sequential net = [] {
    auto made = tiny_net();
    made->push_back(torch::nn::Dropout(0.5));
    return made;
  }();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

const ta::TrainOptions kOptions{
    .num_epochs = 2, .eval_dataset = tiny_batch(6, 3), .per_device_batch_size = 4};

/// Evaluates beside the model when the epoch's own evaluation has ended.
class Beside : public ta::Callback {
 public:
  void on_eval_epoch_end(ta::Trainer& trainer, const ta::EvalEpochEnd& event) override {
    if (!event.is_intermediate) trainer.evaluate_intermediate({.prefix = "beside_"});
  }
};

TEST(IntermediateEvaluation, LeavesWeightsModesAndRandomNumbersAlone) {
  Fixture plain;
  Fixture evaluated;
  evaluated.net[0]->eval();  // a mode of its own, which training() puts into train mode at first
  std::vector<bool> modes;
  evaluated.trainer.callbacks().add(
      AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
        if (event.micro_batch == 0) evaluated.net[1]->eval();
        const auto found = trainer.evaluate_intermediate({.limit_batches = 1});
        EXPECT_EQ(found.rows, 4);
        modes = {evaluated.net->is_training(), evaluated.net[1]->is_training(),
                 evaluated.net[3]->is_training()};
      }));
  torch::manual_seed(5);
  plain.trainer.train(tiny_batch(8), kOptions);
  torch::manual_seed(5);
  evaluated.trainer.train(tiny_batch(8), kOptions);
  EXPECT_TRUE(equal_bits(*plain.net, *evaluated.net));
  EXPECT_THAT(modes, ElementsAre(true, false, true));
}

TEST(IntermediateEvaluation, MakesARowOfItsOwnWithinAnEpochAndJoinsTheEpochsAfterIt) {
  Fixture f;
  f.trainer.callbacks().add(Beside());
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
    if (event.updates == 1) trainer.request_evaluation();  // heard of with the second update
  }));
  f.trainer.train(tiny_batch(8), kOptions);
  const auto& rows = f.trainer.history().rows();
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_TRUE(rows[0].is_intermediate);
  EXPECT_EQ(rows[0].updates, 2);
  EXPECT_TRUE(rows[0].metrics.find("intermediate_eval_loss").has_value());
  for (std::size_t i = 1; i < 3; ++i) {
    EXPECT_FALSE(rows[i].is_intermediate);
    EXPECT_EQ(rows[i].metrics["beside_loss"], rows[i].metrics["eval_loss"]);
    EXPECT_FALSE(rows[i].metrics.find("intermediate_eval_loss").has_value());
  }
}

TEST(IntermediateEvaluation, IsRefusedWithoutARunOrADatasetAndWhileOneIsGoingOn) {
  Fixture f;
  EXPECT_THAT(message_of<ta::StateError>([&] { f.trainer.evaluate_intermediate(); }),
              HasSubstr("no run is going on"));
  f.trainer.callbacks().add(AtStepEnd(
      [](ta::Trainer& trainer, const ta::TrainStepEnd&) { trainer.evaluate_intermediate(); }));
  EXPECT_THAT(
      message_of<ta::StateError>([&] { f.trainer.train(tiny_batch(8), {.num_epochs = 1}); }),
      HasSubstr("no eval_dataset"));

  struct Within : ta::Callback {
    void on_eval_step_end(ta::Trainer& trainer, const ta::EvalStepEnd&) override {
      trainer.evaluate_intermediate();
    }
  };
  struct AtStart : ta::Callback {
    void on_eval_epoch_start(ta::Trainer& trainer, const ta::EvalEpochStart&) override {
      trainer.evaluate_intermediate();
    }
  };
  const auto refused = [](auto callback) {
    Fixture fresh;
    fresh.trainer.callbacks().add(std::move(callback));
    return message_of<ta::StateError>([&] { fresh.trainer.train(tiny_batch(8), kOptions); });
  };
  EXPECT_THAT(refused(Within()), HasSubstr("reading the batches right now"));
  EXPECT_THAT(refused(AtStart()), HasSubstr("reading the batches right now"));
}

/// Draws a random number for each batch that it evaluates.
class DrawingTrainer : public ta::Trainer {
 public:
  using Trainer::Trainer;

 protected:
  ta::StepOutput calculate_eval_batch_loss(const ta::Batch& batch) override {
    torch::rand({3});
    return Trainer::calculate_eval_batch_loss(batch);
  }
};

TEST(IntermediateEvaluation, ThatDrawsRandomNumbersLeavesTheRunsAlone) {
  const auto trained = [](bool evaluates) {
    Fixture f;
    DrawingTrainer trainer(f.net, torch::nn::MSELoss(), f.optimizer, ta::CallbackList());
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd&) {
      if (evaluates) of.evaluate_intermediate();
    }));
    torch::manual_seed(5);
    trainer.train(tiny_batch(8), kOptions);
    return f.net;
  };
  EXPECT_TRUE(equal_bits(*trained(false), *trained(true)));
}

}  // namespace
}  // namespace tests::intermediate_evaluation_test
