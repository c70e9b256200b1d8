// SPDX-License-Identifier: Apache-2.0
// Checkpoints that a run is not to go on from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/found_checkpoint.h"
#include "support/file_bytes.h"
#include "support/saving_run.h"

namespace tests::wrong_checkpoint_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using torch_accelerated::testing::read_bytes;
using torch_accelerated::testing::TempDir;
using torch_accelerated::testing::write_bytes;

struct WrongCheckpoint : testing::Test {
  WrongCheckpoint() {
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

  // As one writes it who wants to be believed.
  void set_number(const std::string& name, const std::string& value) const {
    const auto file = newest / "state.json";
    auto text = read_bytes(file);
    const auto at = text.find("\"" + name + "\": ") + name.size() + 4;
    write_bytes(file, text.replace(at, text.find(',', at) - at, value));
    auto manifest = ta::read_manifest(newest);
    for (auto& entry : manifest.files) {
      if (entry.name == "state.json") entry = ta::summed_file(file);
    }
    write_bytes(newest / "manifest.json", ta::manifest_text(manifest));
  }

  TempDir folder;
  fs::path newest;
};

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
  const auto refused = message_of<ta::CheckpointError>([&] {
    trainer.train(tiny_batch(8), {.num_epochs = 2,
                                  .eval_dataset = tiny_batch(4, 2),
                                  .per_device_batch_size = 2,
                                  .resume_from = newest,
                                  .resume_with_changes = true});
  });
  EXPECT_THAT(refused, AllOf(HasSubstr("Adam"), HasSubstr("SGD")));
}

TEST_F(WrongCheckpoint, ThatIsNoneOrNotCommittedIsRefused) {
  Saving other(folder.path());
  EXPECT_THAT(message_of<ta::Error>([&] { other.train(folder.path() / "nowhere"); }),
              HasSubstr("nowhere"));
  fs::remove(latest(folder) / "manifest.json");
  EXPECT_EQ(latest(folder).filename(), "update-000000004");
  expect_refused(other, "update-000000008");
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

TEST_F(WrongCheckpoint, OfAPlaceThatNoRunHasComeToIsRefused) {
  const auto values = read_bytes(newest / "state.json");
  const auto manifest = read_bytes(newest / "manifest.json");
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"epoch", "-1"},
                                                        {"update", "-1"},
                                                        {"update", "9007199254740993"},
                                                        {"micro_batch", "-4"},
                                                        {"micro_batches_per_update", "0"},
                                                        {"first_epoch", "-1"},
                                                        {"skipped_updates", "-1"},
                                                        {"skipped_updates", "9"}}) {  // of 8
    set_number("position/" + name, value);
    Saving other(folder.path());
    EXPECT_THAT(message_of<ta::CheckpointError>([&] { other.train(newest); }),
                AllOf(HasSubstr(name), HasSubstr(value)));
    write_bytes(newest / "state.json", values);
    write_bytes(newest / "manifest.json", manifest);
  }
  set_number("position/skipped_updates", "8");
  Saving other(folder.path());
  EXPECT_EQ(other.train(newest).progress.skipped_updates, 8);
}

TEST_F(WrongCheckpoint, GivesWayToTheOneBeforeWhereTheOptionsLetItAndSaysSo) {
  put("model.safetensors",
      static_cast<std::streamoff>(fs::file_size(newest / "model.safetensors") - 3), 4);
  Saving whole(folder.path() / "whole");
  whole.train();
  for (const auto& asked : {newest, newest / ""}) {
    Saving again(folder.path());
    again.options.checkpoints.directory.clear();
    again.options.resume_with_earlier = true;
    testing::internal::CaptureStderr();
    const auto result = again.train(asked);
    const auto log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(result.progress.update, 8);
    EXPECT_TRUE(equal_bits(*again.net, *whole.net));
    EXPECT_THAT(log, AllOf(HasSubstr("update-000000008"), HasSubstr("'model.safetensors'"),
                           HasSubstr("going on from " +
                                     (newest.parent_path() / "update-000000004").string())));
  }
}

TEST_F(WrongCheckpoint, NeverGivesWayToALaterOneNorStandsForOneThatIsNotThere) {
  const auto first = newest.parent_path() / "update-000000004";
  write_bytes(first / "manifest.json", "{}");
  Saving again(folder.path());
  again.options.resume_with_earlier = true;
  EXPECT_THAT(message_of<ta::CheckpointError>([&] { again.train(first); }),
              HasSubstr("there is no undamaged one before it"));
  const auto absent = newest.parent_path() / "update-000000009";
  EXPECT_THAT(message_of<ta::CheckpointError>([&] { again.train(absent); }),
              AllOf(HasSubstr("update-000000009"), Not(HasSubstr("before it"))));
}

}  // namespace
}  // namespace tests::wrong_checkpoint_test
