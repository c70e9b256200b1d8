// SPDX-License-Identifier: Apache-2.0
// When a run saves and what becomes of a failure; that resuming is continuation is
// behaviour/resume_test.cpp's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "checkpoint/checkpoint_files.h"
#include "support/file_bytes.h"
#include "support/file_size_limit.h"
#include "support/saving_run.h"

namespace tests::checkpointing_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using torch_accelerated::testing::FileSizeLimit;
using torch_accelerated::testing::names_in;
using torch_accelerated::testing::TempDir;

TEST(Checkpoints, AreTakenWhenTheLastCallbackHasHadTheEventAndToldWhenTheyAreThere) {
  const TempDir folder;
  Saving saving(folder.path());
  auto told = saving.trainer.callbacks()
                  .add(AtUpdate(3, [](ta::Trainer& trainer) { trainer.save_checkpoint(); }))
                  .told;
  saving.train();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000003"));
  EXPECT_THAT(*told, ElementsAre(3));
}

/// Keeps how many events it has had.
class Counting : public ta::Callback {
 public:
  std::string name() const override { return "Counting"; }
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd&) override { ++steps_; }
  void on_training_run_epoch_end(ta::Trainer&, const ta::TrainingRunEpochEnd&) override {
    ++epochs_;
  }
  ta::State state() const override {
    return ta::State().set("steps", steps_).set("epochs", epochs_);
  }

 private:
  std::int64_t steps_ = 0;
  std::int64_t epochs_ = 0;
};

std::int64_t counted(const fs::path& checkpoint, const std::string& what) {
  return ta::SavedCheckpoint(checkpoint).values().get<std::int64_t>("callbacks/Counting/" + what);
}

TEST(Checkpoints, HaveWhatCallbacksBehindTheOneThatAsksHaveMadeOfTheSameEvent) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(
      AtUpdate(3, [](ta::Trainer& trainer) { trainer.save_checkpoint(); }));
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1, .at_end = false}));
  saving.trainer.callbacks().add(Counting());
  saving.train();
  const auto checkpoints = folder.path() / "checkpoints";
  EXPECT_EQ(counted(checkpoints / "update-000000003", "steps"), 3);
  EXPECT_EQ(counted(checkpoints / "update-000000003", "epochs"), 0);
  EXPECT_EQ(counted(checkpoints / "update-000000004", "epochs"), 1);
  EXPECT_EQ(counted(checkpoints / "update-000000008", "epochs"), 2);
}

TEST(Checkpoints, ByTimeComeWithTheUpdateAfterIt) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(AtUpdate(
      2, [](ta::Trainer&) { std::this_thread::sleep_for(std::chrono::milliseconds(1010)); }));
  saving.trainer.callbacks().add(
      ta::SaveCheckpoints({.every = std::chrono::seconds(1), .at_end = false}));
  saving.train();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000003"));
}

TEST(Checkpoints, RequestedFromAnotherThreadComeWithTheNextUpdate) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(AtUpdate(
      3, [](ta::Trainer& trainer) { std::thread([&] { trainer.request_checkpoint(); }).join(); }));
  saving.train();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000004"));
}

TEST(Checkpoints, OfAProgramsOwnLoopAreSavedBetweenSteps) {
  const TempDir folder;
  Saving saving(folder.path());
  const auto go = [&](Saving& of, int from, int to) {
    for (int i = from; i < to; ++i) of.trainer.step(tiny_batch(2, static_cast<unsigned>(i + 1)));
  };
  saving.trainer.start(saving.options);
  go(saving, 0, 3);
  saving.trainer.save_checkpoint();
  go(saving, 3, 6);
  saving.trainer.finish();

  Saving again(folder.path());
  again.options.resume_from = latest(folder);
  again.trainer.start(again.options);
  EXPECT_EQ(again.trainer.progress().update, 3);
  EXPECT_EQ(again.trainer.progress().micro_batch, 3);
  go(again, 3, 6);
  again.trainer.finish();
  EXPECT_TRUE(equal_bits(*again.net, *saving.net));
  EXPECT_EQ(again.trainer.history().latest("train_loss"),
            saving.trainer.history().latest("train_loss"));
}

TEST(Checkpoints, OfAnOwnLoopThatHadBeenFinishedTakeNoMoreSteps) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(ta::SaveCheckpoints());
  saving.trainer.start(saving.options);
  for (unsigned i = 1; i < 4; ++i) saving.trainer.step(tiny_batch(2, i));
  saving.trainer.finish();

  Saving again(folder.path());
  again.options.resume_from = latest(folder);
  again.trainer.start(again.options);
  EXPECT_THAT(message_of<ta::StateError>([&] { again.trainer.step(tiny_batch(2)); }),
              HasSubstr("come to its end"));
  const auto result = again.trainer.finish();
  EXPECT_EQ(result.progress.update, 3);
  EXPECT_EQ(result.progress.epoch, 1);
  EXPECT_EQ(again.trainer.history().rows().size(), 1U);
  EXPECT_TRUE(equal_bits(*again.net, *saving.net));
}

TEST(Checkpoints, AreRefusedWhereNoneAreKept) {
  const TempDir folder;
  Saving saving(folder.path());
  EXPECT_THROW(saving.trainer.save_checkpoint(), ta::StateError);
  saving.trainer.request_checkpoint();  // nobody hears it
  saving.options.checkpoints.directory.clear();
  EXPECT_EQ(saving.train().progress.update, 8);
}

TEST(Checkpoints, KeepASecondJobOutOfTheirDirectory) {
  const TempDir folder;
  Saving first(folder.path());
  first.trainer.start(first.options);
  Saving second(folder.path());
  EXPECT_THAT(message_of<ta::StateError>([&] { second.train(); }), HasSubstr("another job"));
  first.trainer.step(tiny_batch(2));
  first.trainer.finish();
}

TEST(Checkpoints, OfTensorsOrOptimizersThatCantBeSavedAreRefusedBeforeTraining) {
  struct Foreign : torch::optim::Optimizer {
    explicit Foreign(std::vector<torch::Tensor> parameters)
        : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                    std::make_unique<torch::optim::SGDOptions>(0.1)) {}
    torch::Tensor step(LossClosure /*closure*/ = nullptr) override { return {}; }
    void save(torch::serialize::OutputArchive& /*archive*/) const override {}
    void load(torch::serialize::InputArchive& /*archive*/) override {}
  };
  const TempDir folder;
  auto net = tiny_net();
  Foreign foreign(net->parameters());
  ta::Trainer trainer(net, torch::nn::MSELoss(), foreign, ta::CallbackList());
  const auto refused = message_of<ta::ArgumentError>([&] {
    trainer.train(tiny_batch(8),
                  {.num_epochs = 1, .checkpoints = {.directory = folder.path() / "c"}});
  });
  EXPECT_THAT(refused, AllOf(HasSubstr("Foreign"), HasSubstr("Stateful")));

  Saving twice(folder.path());
  auto other = tiny_net();
  struct Holder : torch::nn::Module {};
  const auto holder = std::make_shared<Holder>();
  holder->register_parameter("weight", torch::zeros({1}));
  twice.trainer.register_module("0", ta::Model(std::make_shared<Holder>(*holder),
                                               [](const ta::Batch& batch) { return batch; }));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { twice.train(); }),
              HasSubstr("the name '0.weight'"));
}

// Until that checkpoint is there; a slow disk isn't what is tested.
void wait_for(const TempDir& folder, const std::string& name) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (committed(folder) != std::vector{name} && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

class SaveFailures : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Asynchronous, SaveFailures, testing::Bool());

TEST_P(SaveFailures, SurfaceAtTheNextUpdateAndLeaveTheCheckpointBefore) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.asynchronous = GetParam();
  std::optional<FileSizeLimit> full;
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 2}));
  saving.trainer.callbacks().add(AtUpdate(4, [&](ta::Trainer&) {
    wait_for(folder, "update-000000002");
    full.emplace(256);
  }));
  const auto message = message_of<ta::FileError>([&] { saving.train(); });
  full.reset();
  EXPECT_THAT(message, AllOf(HasSubstr("the checkpoint of update 4 couldn't be saved"),
                             HasSubstr("safetensors")));
  EXPECT_THAT(committed(folder), ElementsAre("update-000000002"));
  Saving again(folder.path());
  EXPECT_EQ(again.train(latest(folder)).progress.update, 8);
}

TEST_P(SaveFailures, MayBeWarningsAndTrainingGoesOn) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.asynchronous = GetParam();
  saving.options.checkpoints.on_failure = ta::SaveFailure::kWarn;
  std::optional<FileSizeLimit> full;
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 2}));
  struct Again : AtUpdate {
    using AtUpdate::AtUpdate;
  };
  saving.trainer.callbacks().add(AtUpdate(4, [&](ta::Trainer&) {
    wait_for(folder, "update-000000002");
    full.emplace(256);
  }));
  saving.trainer.callbacks().add(Again(7, [&](ta::Trainer&) { full.reset(); }));
  EXPECT_EQ(saving.train().progress.update, 8);
  EXPECT_EQ(committed(folder).front(), "update-000000002");
  EXPECT_EQ(committed(folder).back().substr(0, 16), "update-000000008");
  EXPECT_EQ(fs::exists(folder.path() / "checkpoints" / "update-000000004"), false);
}

/// Keeps a tensor, which it hasn't got at first.
class Hollow : public ta::Callback {
 public:
  ta::State state() const override { return ta::State().set_tensor("average", *tensor); }
  std::shared_ptr<torch::Tensor> tensor = std::make_shared<torch::Tensor>();
};

TEST_P(SaveFailures, OfACallbackWhoseStateCantBeWrittenAreAsThoseOfADisk) {
  const auto save = [](ta::Trainer& trainer) { trainer.save_checkpoint(); };
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.asynchronous = GetParam();
  saving.options.checkpoints.on_failure = ta::SaveFailure::kWarn;
  const auto tensor = saving.trainer.callbacks().add(Hollow()).tensor;
  saving.trainer.callbacks().add(AtUpdate(2, save));
  saving.trainer.callbacks().add(
      AtStepEnd([&](ta::Trainer& trainer, const ta::TrainStepEnd& event) {
        if (event.updates != 5) return;
        *tensor = torch::ones(3);
        trainer.save_checkpoint();
      }));
  EXPECT_EQ(saving.train().progress.update, 8);
  EXPECT_THAT(names_in(folder.path() / "checkpoints"), ElementsAre("lock", "update-000000005"));

  Saving throwing(folder.path());
  throwing.options.checkpoints.asynchronous = GetParam();
  throwing.trainer.callbacks().add(Hollow());
  throwing.trainer.callbacks().add(AtUpdate(2, save));
  EXPECT_THAT(message_of<ta::FileError>([&] { throwing.train(); }),
              HasSubstr("the checkpoint of update 2 couldn't be saved"));
  EXPECT_THAT(names_in(folder.path() / "checkpoints"), ElementsAre("lock", "update-000000005"));
}

/// A source of batches that can't be told where to go on.
class Stream : public ta::BatchSource {
 public:
  std::optional<ta::Batch> next() override {
    if (given_ == 4) return std::nullopt;
    return tiny_batch(2, static_cast<unsigned>(++given_));
  }
  void start_epoch(std::int64_t) override { given_ = 0; }

 private:
  int given_ = 0;
};

TEST(Resume, OnASourceWithoutAPositionBeginsTheEpochAgain) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(AtUpdate(6, [](ta::Trainer& trainer) {
    trainer.save_checkpoint();
    trainer.request_stop("enough");
  }));
  Stream stream;
  saving.trainer.train(stream, saving.options);
  Saving again(folder.path());
  again.options.resume_from = latest(folder);
  const auto result = again.trainer.train(stream, again.options);
  EXPECT_EQ(result.progress.epoch, 2);
  EXPECT_EQ(result.progress.update, 10);
}

}  // namespace
}  // namespace tests::checkpointing_test
