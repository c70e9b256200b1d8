// SPDX-License-Identifier: Apache-2.0
// When a run saves and what it refuses; that resuming is continuation is
// behaviour/resume_test.cpp's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
using torch_accelerated::testing::TempDir;

/// A run of 2 epochs of 4 updates.
struct Saving {
  explicit Saving(const fs::path& folder, torch::nn::Sequential given = tiny_net())
      : net(std::move(given)),
        optimizer(sgd(net)),
        trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()) {
    options = {.num_epochs = 2,
               .eval_dataset = tiny_batch(4, 2),
               .per_device_batch_size = 2,
               .checkpoints = {.directory = folder / "checkpoints", .keep_newest = {}}};
  }

  ta::RunResult train(std::optional<fs::path> from = {}) {
    options.resume_from = std::move(from);
    return trainer.train(tiny_batch(8), options);
  }

  torch::nn::Sequential net;
  torch::optim::SGD optimizer;
  ta::Trainer trainer;
  ta::TrainOptions options;
};

std::vector<std::string> committed(const TempDir& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path() / "checkpoints")) {
    if (fs::exists(entry.path() / "manifest.json")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path latest(const TempDir& folder) {
  const auto found = ta::latest_checkpoint(folder.path() / "checkpoints");
  return found.value_or(fs::path());
}

/// What `call` at the end of an update does.
class AtUpdate : public ta::Callback, public ta::OnCheckpoint {
 public:
  AtUpdate(std::int64_t update, std::function<void(ta::Trainer&)> call)
      : update_(update), call_(std::move(call)) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
    if (event.updates == update_) call_(trainer);
  }
  void on_checkpoint_committed(ta::Trainer&, const ta::CheckpointCommitted& event) override {
    told->push_back(event.update);
  }
  std::shared_ptr<std::vector<std::int64_t>> told = std::make_shared<std::vector<std::int64_t>>();

 private:
  std::int64_t update_;
  std::function<void(ta::Trainer&)> call_;
};

TEST(SaveCheckpoints, SavesEveryNUpdatesEveryNEpochsAndAtTheEnd) {
  const TempDir updates;
  Saving by_updates(updates.path());
  by_updates.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 3, .at_end = false}));
  by_updates.train();
  EXPECT_THAT(committed(updates), ElementsAre("update-000000003", "update-000000006"));

  const TempDir epochs;
  Saving by_epochs(epochs.path());
  by_epochs.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
  by_epochs.train();
  EXPECT_THAT(committed(epochs), ElementsAre("update-000000004", "update-000000008"));

  const TempDir end;
  Saving at_end(end.path());
  at_end.trainer.callbacks().add(ta::SaveCheckpoints());
  at_end.train();
  EXPECT_THAT(committed(end), ElementsAre("update-000000008"));
}

TEST(SaveCheckpoints, KeepsTheNewestAndTheBestAlsoOfEarlierRuns) {
  const TempDir folder;
  for (int run = 0; run < 2; ++run) {
    Saving saving(folder.path());
    saving.options.checkpoints.keep_newest = 1;
    saving.options.checkpoints.keep_best = 1;
    saving.options.checkpoints.metric = "train_loss";
    saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
    saving.train();
  }
  // The second run gives the same numbers: the first of equals is the best, the last the newest.
  EXPECT_THAT(committed(folder), ElementsAre("update-000000008", "update-000000008-2"));
}

TEST(SaveCheckpoints, NeedsADirectoryAndAnOccasion) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.directory.clear();
  saving.trainer.callbacks().add(ta::SaveCheckpoints());
  EXPECT_THAT([&] { saving.train(); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("keeps no checkpoints")));
  EXPECT_THAT([] { ta::SaveCheckpoints({.every_updates = 0, .at_end = false}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("every_updates must be >= 1, got 0")));
  EXPECT_THAT([] { ta::SaveCheckpoints({.at_end = false}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("never save")));
}

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
  EXPECT_THAT([&] { second.train(); }, ThrowsMessage<ta::StateError>(HasSubstr("another job")));
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
  EXPECT_THAT(
      [&] {
        trainer.train(tiny_batch(8),
                      {.num_epochs = 1, .checkpoints = {.directory = folder.path() / "c"}});
      },
      ThrowsMessage<ta::ArgumentError>(AllOf(HasSubstr("Foreign"), HasSubstr("Stateful"))));

  Saving twice(folder.path());
  auto other = tiny_net();
  struct Holder : torch::nn::Module {};
  const auto holder = std::make_shared<Holder>();
  holder->register_parameter("weight", torch::zeros({1}));
  twice.trainer.register_module("0", ta::Model(std::make_shared<Holder>(*holder),
                                               [](const ta::Batch& batch) { return batch; }));
  EXPECT_THAT([&] { twice.train(); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("the name '0.weight'")));
}

// A limit of the size of files is the quickest full disk.
class FullDisk {
 public:
  FullDisk() {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    auto small = before_;
    small.rlim_cur = 256;
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  struct rlimit before_{};
};

class SaveFailures : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Asynchronous, SaveFailures, testing::Bool());

TEST_P(SaveFailures, SurfaceAtTheNextUpdateAndLeaveTheCheckpointBefore) {
  const TempDir folder;
  Saving saving(folder.path());
  saving.options.checkpoints.asynchronous = GetParam();
  std::optional<FullDisk> full;
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 2}));
  saving.trainer.callbacks().add(AtUpdate(4, [&](ta::Trainer&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // that of update 2 is there
    full.emplace();
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
  std::optional<FullDisk> full;
  saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 2}));
  struct Again : AtUpdate {
    using AtUpdate::AtUpdate;
  };
  saving.trainer.callbacks().add(AtUpdate(4, [&](ta::Trainer&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // that of update 2 is there
    full.emplace();
  }));
  saving.trainer.callbacks().add(Again(7, [&](ta::Trainer&) { full.reset(); }));
  EXPECT_EQ(saving.train().progress.update, 8);
  EXPECT_EQ(committed(folder).front(), "update-000000002");
  EXPECT_EQ(committed(folder).back().substr(0, 16), "update-000000008");
  EXPECT_EQ(fs::exists(folder.path() / "checkpoints" / "update-000000004"), false);
}

TEST(StopOnSignal, SavesTheUpdateAtWhichTheRunStops) {
  const TempDir folder;
  Saving whole(folder.path() / "whole");
  whole.train();
  Saving stopped(folder.path());
  stopped.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  stopped.trainer.callbacks().add(AtUpdate(3, [](ta::Trainer&) { std::raise(SIGUSR2); }));
  const auto result = stopped.train();
  EXPECT_THAT(result.stop_reason, HasSubstr("StopOnSignal"));
  EXPECT_EQ(result.progress.update, 4);
  EXPECT_THAT(committed(folder), ElementsAre("update-000000004"));
  Saving again(folder.path());
  again.train(latest(folder));
  EXPECT_TRUE(equal_bits(*again.net, *whole.net));
}

TEST(StopOnSignal, GivesTheHandlersBack) {
  static int count = 0;
  std::signal(SIGUSR2, [](int) { ++count; });
  const TempDir folder;
  Saving saving(folder.path());
  saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
  saving.train();
  std::raise(SIGUSR2);
  EXPECT_EQ(count, 1);
  std::signal(SIGUSR2, SIG_DFL);
}

TEST(StopOnSignal, LetsASecondSignalEndTheProcessAtOnce) {
  const TempDir folder;
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        Saving saving(folder.path());
        saving.trainer.callbacks().add(ta::StopOnSignal({SIGUSR2}));
        saving.trainer.callbacks().add(AtUpdate(3, [](ta::Trainer&) {
          std::raise(SIGUSR2);
          std::raise(SIGUSR2);
        }));
        saving.train();
      },
      testing::KilledBySignal(SIGUSR2), "");
}

TEST(StopOnSignal, RefusesSignalsWithoutHandlers) {
  EXPECT_THAT([] { ta::StopOnSignal({SIGKILL}); },
              ThrowsMessage<ta::ArgumentError>(HasSubstr("signal 9")));
  EXPECT_THROW(ta::StopOnSignal(std::vector<int>()), ta::ArgumentError);
}

TEST(WSDCheckpoint, KeepsBothEndsOfTheDecayAndALongerRunGoesOnFromTheFirst) {
  const ta::WsdOptions schedule{.decay_updates = 3};
  const TempDir folder;
  Saving decayed(folder.path());
  decayed.options.scheduler = ta::wsd(schedule);
  decayed.options.checkpoints.keep_newest = 1;
  decayed.trainer.callbacks().add(ta::WSDCheckpoint(schedule));
  decayed.trainer.callbacks().add(ta::SaveCheckpoints({.every_updates = 1}));
  decayed.train();
  EXPECT_THAT(committed(folder), ElementsAre("update-000000005", "update-000000008-2"));
  auto loaded = tiny_net(99);
  ta::load_weights(*loaded, folder.path() / "checkpoints/decayed-update-000000008.safetensors");
  EXPECT_TRUE(equal_bits(*loaded, *decayed.net));

  const TempDir longer_folder;
  Saving longer(longer_folder.path());
  longer.options.num_epochs = 4;
  longer.options.scheduler = ta::wsd(schedule);
  longer.train();
  Saving from_before(folder.path());
  from_before.options.num_epochs = 4;
  from_before.options.scheduler = ta::wsd(schedule);
  from_before.options.resume_with_changes = true;
  from_before.train(folder.path() / "checkpoints/update-000000005");
  EXPECT_TRUE(equal_bits(*from_before.net, *longer.net));
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

// --- Wrong checkpoints
// -----------------------------------------------------------------------------

struct Wrong : testing::Test {
  Wrong() {
    Saving saving(folder.path());
    saving.trainer.callbacks().add(ta::SaveCheckpoints({.every_epochs = 1}));
    saving.train();
    newest = latest(folder);
  }

  void expect_refused(Saving& other, const std::string& words) const {
    EXPECT_THAT(message_of<ta::Error>([&] { other.train(newest); }), HasSubstr(words));
  }

  void put(const fs::path& file, std::streamoff at, char flip) const {
    std::fstream stream(newest / file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const char old = static_cast<char>(stream.get());
    stream.seekp(at);
    stream.put(static_cast<char>(old ^ flip));
  }

  TempDir folder;
  fs::path newest;
};

using WrongCheckpoint = Wrong;

TEST_F(WrongCheckpoint, OfAnotherModelNamesTheTensor) {
  Saving wider(folder.path(), torch::nn::Sequential(torch::nn::Linear(4, 8), torch::nn::Tanh(),
                                                    torch::nn::Linear(8, 3)));
  expect_refused(wider, "'0.weight' is F32 of shape [8, 4]");
  Saving deeper(folder.path(),
                torch::nn::Sequential(torch::nn::Linear(4, 5), torch::nn::Tanh(),
                                      torch::nn::Linear(5, 3), torch::nn::Linear(3, 3)));
  expect_refused(deeper, "'3.weight' is not in");
  Saving shallower(folder.path(), torch::nn::Sequential(torch::nn::Linear(4, 3)));
  expect_refused(shallower, "0.weight");
}

TEST_F(WrongCheckpoint, OfAnotherDtypeNamesTheTensor) {
  auto net = tiny_net();
  net->to(torch::kFloat64);
  Saving doubles(folder.path(), net);
  expect_refused(doubles, "'0.weight' is F64 of shape [5, 4]");
}

TEST_F(WrongCheckpoint, OfAnotherOptimizerSaysBothTypes) {
  auto net = tiny_net();
  torch::optim::Adam adam(net->parameters(), 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), adam, ta::CallbackList());
  EXPECT_THAT(
      [&] {
        trainer.train(tiny_batch(8), {.num_epochs = 2,
                                      .eval_dataset = tiny_batch(4, 2),
                                      .per_device_batch_size = 2,
                                      .resume_from = newest,
                                      .resume_with_changes = true});
      },
      ThrowsMessage<ta::CheckpointError>(AllOf(HasSubstr("Adam"), HasSubstr("SGD"))));
}

TEST_F(WrongCheckpoint, ThatIsNoneOrNotCommittedIsRefused) {
  Saving other(folder.path());
  EXPECT_THAT([&] { other.train(folder.path() / "nowhere"); },
              ThrowsMessage<ta::Error>(HasSubstr("nowhere")));
  fs::remove(latest(folder) / "manifest.json");
  EXPECT_EQ(latest(folder).filename(), "update-000000004");
  EXPECT_THAT([&] { other.train(folder.path() / "checkpoints/update-000000008"); },
              ThrowsMessage<ta::Error>(HasSubstr("update-000000008")));
}

TEST_F(WrongCheckpoint, ThatIsCutFlippedOrExchangedIsRefusedNamingTheFile) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json",
                           "rank-00000.safetensors", "manifest.json"}) {
    const auto size = static_cast<std::streamoff>(fs::file_size(newest / file));
    const auto name = std::string(file) == "manifest.json" ? "manifest" : file;
    put(file, size - 9, 1);
    Saving flipped(folder.path());
    expect_refused(flipped, name);
    put(file, size - 9, 1);
    if (std::string(file) == "manifest.json") continue;
    fs::copy_file(newest / file, folder.path() / "kept");
    fs::resize_file(newest / file, static_cast<std::uintmax_t>(size - 1));
    Saving cut(folder.path());
    expect_refused(cut, file);
    fs::copy_file(newest.parent_path() / "update-000000004" / file, newest / file,
                  fs::copy_options::overwrite_existing);
    if (std::string(file) != "rank-00000.safetensors") {  // which may well be the same
      Saving exchanged(folder.path());
      expect_refused(exchanged, file);
    }
    fs::rename(folder.path() / "kept", newest / file);
  }
  Saving mended(folder.path());
  EXPECT_EQ(mended.train(newest).progress.update, 8);
}

TEST_F(WrongCheckpoint, GivesWayToTheOneBeforeWhereTheOptionsLetIt) {
  put("model.safetensors",
      static_cast<std::streamoff>(fs::file_size(newest / "model.safetensors") - 3), 4);
  Saving whole(folder.path() / "whole");
  whole.train();
  Saving again(folder.path());
  again.options.resume_with_earlier = true;
  const auto result = again.train(newest);
  EXPECT_EQ(result.progress.update, 8);
  EXPECT_TRUE(equal_bits(*again.net, *whole.net));
}

}  // namespace
}  // namespace tests
