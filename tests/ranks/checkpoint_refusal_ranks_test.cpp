// SPDX-License-Identifier: Apache-2.0
// Checkpoints that a run of several ranks is not to go on from: refused on all, in the same words.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/text.h"
#include "ranks/shared_folder.h"
#include "support/saving_run.h"

namespace tests::checkpoint_refusal_ranks_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

class WrongCheckpointOnRanks : public testing::Test {
 protected:
  WrongCheckpointOnRanks() : folder_(ranks_) {
    Saving saving(folder_.path(), tiny_net(), &ranks_);
    saving.trainer.callbacks().add(ta::SaveCheckpoints());
    saving.train();
    newest_ = ta::latest_checkpoint(folder_.checkpoints()).value_or(fs::path());
    ranks_.barrier();
  }

  template <class Run, class Matcher>
  void expect_refused(const Run& run, const Matcher& words) {
    const auto text = message_of<ta::CheckpointError>(run);
    EXPECT_THAT(text, words);
    EXPECT_THAT(ranks_.gather_objects(text), Each(text));
  }

  template <class Matcher>
  void expect_refused_for(torch::nn::Sequential net, const Matcher& words) {
    Saving other(folder_.path(), std::move(net), &ranks_);
    expect_refused([&] { other.train(newest_); }, words);
  }

  // Before any rank reads it.
  template <class Change>
  void on_main_process(const Change& change) {
    if (ranks_.is_main_process()) change();
    ranks_.barrier();
  }

  ta::Accelerator ranks_;
  SharedFolder folder_;
  fs::path newest_;
};

TEST_F(WrongCheckpointOnRanks, OfAnotherModelNamesTheTensor) {
  using torch::nn::Linear;
  expect_refused_for(torch::nn::Sequential(Linear(4, 8), torch::nn::Tanh(), Linear(8, 3)),
                     HasSubstr("'0.weight' is F32 of shape [8, 4]"));
  expect_refused_for(tiny_net(7, torch::kFloat64), HasSubstr("'0.weight' is F64 of shape [5, 4]"));
}

TEST_F(WrongCheckpointOnRanks, OfAnotherOptimizerSaysBothTypes) {
  auto net = tiny_net();
  torch::optim::Adam adam(net->parameters(), 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), adam, ta::CallbackList(), &ranks_);
  auto options = Saving(folder_.path(), tiny_net(), &ranks_).options;
  options.resume_from = newest_;
  options.resume_with_changes = true;
  expect_refused([&] { trainer.train(tiny_batch(8), options); },
                 AllOf(HasSubstr("Adam"), HasSubstr("SGD")));
}

TEST_F(WrongCheckpointOnRanks, WithAFlippedBitOfAWeightNamesTheFile) {
  on_main_process([&] {
    std::fstream file(newest_ / "model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-3, std::ios::end);
    const auto flipped = static_cast<char>(file.get() ^ 4);
    file.seekp(-3, std::ios::end);
    file.put(flipped);
  });
  expect_refused_for(tiny_net(), HasSubstr("model.safetensors"));
}

// Which only that rank would read.
TEST_F(WrongCheckpointOnRanks, WithTheFileOfOneRankCutNamesIt) {
  const auto name = ta::concat("rank-0000", ranks_.world_size() - 1, ".safetensors");
  on_main_process([&] { fs::resize_file(newest_ / name, fs::file_size(newest_ / name) - 1); });
  expect_refused_for(tiny_net(), HasSubstr(name));
}

TEST_F(WrongCheckpointOnRanks, IsOtherwiseGoneOnWith) {
  Saving other(folder_.path(), tiny_net(3), &ranks_);
  EXPECT_EQ(other.train(newest_).progress.epoch, 2);
}

}  // namespace
}  // namespace tests::checkpoint_refusal_ranks_test
