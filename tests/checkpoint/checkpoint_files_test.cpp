// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iostream>

#include "base/text.h"
#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/tensor_file.h"
#include "support/faulty_io.h"
#include "support/file_bytes.h"
#include "support/mutations.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

namespace torch_accelerated::checkpoint_files_test {
namespace {

using std::filesystem::path;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::names_in;
using testing::read_bytes;
using testing::TempDir;
using testing::write_bytes;

/// What a small run has; the same sizes for each seed, and other numbers.
CheckpointContents some_contents(std::int64_t seed) {
  torch::manual_seed(static_cast<std::uint64_t>(seed));
  CheckpointContents contents;
  contents.model.set("0.weight", torch::randn({2, 3}));
  contents.model.set("0.bias", torch::randn({3}).to(torch::kBFloat16));
  contents.model.set("count", torch::tensor(seed));
  State adam;
  adam.set("type", std::string("Adam")).set("group/0/lr", 0.5 + static_cast<double>(seed));
  adam.set_tensor("0.weight/exp_avg", torch::randn({2, 3}));
  contents.optimizers.set_part("main", adam);
  contents.rest.set("position/update", seed).set("history/none", std::vector<double>{});
  contents.rest.set_tensor("callbacks/ema/weight", torch::randn({2}));
  return contents;
}

TensorDict rank_tensors(int rank, std::int64_t seed = 1) {
  return {{"random/cpu", torch::full({5}, 10 * seed + rank, torch::kUInt8)}};
}

constexpr const char* kFiles[] = {"model.safetensors",      "optimizer.safetensors",
                                  "state.safetensors",      "state.json",
                                  "rank-00000.safetensors", "rank-00001.safetensors"};

/// Checkpoints of two ranks, in a folder of their own.
class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() { folder_.lock(); }

  path save(std::int64_t seed) { return save(some_contents(seed), seed); }
  path save(const CheckpointContents& contents, std::int64_t seed) {
    const auto checkpoint = folder_.begin(seed);
    Manifest manifest{.library = "0.1.0", .update = seed, .world_size = 2};
    manifest.files = write_contents(system_io(), checkpoint, contents);
    for (int rank : {0, 1}) {
      manifest.files.push_back(write_rank(system_io(), checkpoint, rank, rank_tensors(rank, seed)));
    }
    return folder_.commit(checkpoint, manifest).path;
  }

  // The one that is there, with another manifest.
  static void commit_again(const path& checkpoint, const Manifest& manifest) {
    write_bytes(checkpoint / "manifest.json", manifest_text(manifest));
  }

  TempDir temp_;
  CheckpointFolder folder_{temp_.path()};
};

/// All that is in a checkpoint, read as a run does.
struct Everything {
  explicit Everything(const path& checkpoint) {
    const SavedCheckpoint saved(checkpoint);
    model = read_tensors(*saved.model());
    optimizers = saved.optimizers();
    rest = saved.rest();
    for (int rank = 0; rank < saved.manifest().world_size; ++rank) {
      ranks.push_back(saved.rank(rank));
    }
  }
  TensorDict model;
  State optimizers;
  State rest;
  std::vector<TensorDict> ranks;
};

std::string refusal(const path& checkpoint) {
  try {
    const Everything read(checkpoint);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

// The order of a file is its own.
void expect_same(const TensorDict& read, const TensorDict& written) {
  EXPECT_EQ(read.size(), written.size());
  for (const auto& [name, tensor] : written) {
    EXPECT_EQ(read[name].scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(torch::equal(read[name], tensor)) << name;
  }
}

TEST_F(Checkpoint, IsReadAsItWasWritten) {
  const auto written = some_contents(7);
  const Everything read(save(7));
  expect_same(read.model, written.model);
  EXPECT_EQ(read.optimizers.values(), written.optimizers.values());
  expect_same(read.optimizers.tensors(), written.optimizers.tensors());
  EXPECT_EQ(read.rest.get<std::int64_t>("position/update"), 7);
  EXPECT_EQ(read.rest.get<std::vector<double>>("history/none"), std::vector<double>{});
  EXPECT_EQ(read.rest.get<double>("optimizers/main/group/0/lr"), 7.5);
  EXPECT_EQ(read.rest.values().size(), 4U);
  expect_same(read.rest.tensors(), written.rest.tensors());
  for (int rank : {0, 1})
    expect_same(read.ranks[static_cast<std::size_t>(rank)], rank_tensors(rank, 7));
}

TEST_F(Checkpoint, HasTheseFiles) {
  const auto checkpoint = save(7);
  EXPECT_THAT(names_in(checkpoint),
              ElementsAre("manifest.json", "model.safetensors", "optimizer.safetensors",
                          "rank-00000.safetensors", "rank-00001.safetensors", "state.json",
                          "state.safetensors"));
  EXPECT_EQ(read_bytes(checkpoint / "state.json"), R"({
"position/update": 7,
"history/none": [],
"optimizers/main/type": "Adam",
"optimizers/main/group/0/lr": 7.5
}
)");
  const SavedCheckpoint saved(checkpoint);
  EXPECT_EQ(saved.folder(), checkpoint);
  EXPECT_EQ(saved.manifest().update, 7);
  for (const auto& file : saved.manifest().files) {
    EXPECT_EQ(file, summed_file(checkpoint / file.name)) << file.name;
  }
}

TEST_F(Checkpoint, OfARunThatKeepsNothingIsRead) {
  const auto checkpoint = save({.model = {}, .optimizers = {}, .rest = {}}, 3);
  EXPECT_FALSE(std::filesystem::exists(checkpoint / "state.safetensors"));
  const Everything read(checkpoint);
  EXPECT_TRUE(read.model.empty());
  EXPECT_TRUE(read.optimizers.empty());
  EXPECT_TRUE(read.rest.empty());
}

TEST_F(Checkpoint, WithAFileOfAnotherOneIsRefusedByItsName) {
  const auto one = save(1);
  const auto other = save(2);
  for (const char* name : kFiles) {
    const auto own = read_bytes(one / name);
    const auto foreign = read_bytes(other / name);
    ASSERT_EQ(own.size(), foreign.size()) << name;
    ASSERT_NE(own, foreign) << name;
    write_bytes(one / name, foreign);
    EXPECT_THAT(refusal(one), AllOf(HasSubstr((one / name).string()), HasSubstr("other bytes")));
    EXPECT_THROW(SavedCheckpoint{one}, CheckpointError) << name;  // before anything is read
    write_bytes(one / name, own);
  }
  EXPECT_EQ(refusal(one), "accepted");
}

TEST_F(Checkpoint, WithTwoRanksFilesExchangedIsRefused) {
  const auto checkpoint = save(1);
  const auto first = read_bytes(checkpoint / kFiles[4]);
  write_bytes(checkpoint / kFiles[4], read_bytes(checkpoint / kFiles[5]));
  write_bytes(checkpoint / kFiles[5], first);
  EXPECT_THAT(refusal(checkpoint), HasSubstr("rank-00000.safetensors"));
}

std::vector<std::string> all_files() {
  std::vector<std::string> names(std::begin(kFiles), std::end(kFiles));
  names.push_back("manifest.json");
  return names;
}

TEST_F(Checkpoint, IsRefusedWithAnySingleFlippedBitOfAnyFile) {
  const auto checkpoint = save(1);
  std::size_t flips = 0;
  for (const auto& name : all_files()) {
    const auto bytes = read_bytes(checkpoint / name);
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit, ++flips) {
      auto flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      write_bytes(checkpoint / name, flipped);
      ASSERT_THAT(refusal(checkpoint), HasSubstr(name)) << "bit " << bit;
    }
    write_bytes(checkpoint / name, bytes);
  }
  EXPECT_GT(flips, 10'000U);
  EXPECT_EQ(refusal(checkpoint), "accepted");
}

TEST_F(Checkpoint, IsRefusedAtEveryTruncationOfAnyFile) {
  const auto checkpoint = save(1);
  for (const auto& name : all_files()) {
    const auto bytes = read_bytes(checkpoint / name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      write_bytes(checkpoint / name, std::string_view(bytes).substr(0, size));
      ASSERT_THAT(refusal(checkpoint), HasSubstr(name)) << size << " bytes";
    }
    write_bytes(checkpoint / name, bytes + '\0');
    EXPECT_THAT(refusal(checkpoint), HasSubstr(name));
    write_bytes(checkpoint / name, bytes);
  }
}

// One change to a file, such as a bad disk, a bad copy or a hostile hand makes.
// @param foreign  another checkpoint's file, or another of the same one.
void mutate(std::string& bytes, const std::string& foreign, RandomStream& stream) {
  const auto at = bytes.empty() ? 0 : stream.below(bytes.size());
  const auto length = bytes.empty() ? 0 : stream.below(bytes.size() - at);
  const auto kind = stream.below(16);
  if (kind < 3) {  // a block that never got to the disk
    bytes.replace(at, length, length, '\0');
  } else if (kind < 6) {
    bytes.replace(at, length, foreign.substr(std::min(at, foreign.size()), length));
  } else if (kind == 6) {
    bytes = foreign;
  } else {
    testing::mutate_text(bytes, stream);
  }
}

// All that a run reads: no crash, no other error than CheckpointError, nothing taken for what it
// isn't, no time and memory beyond what a small file is worth.
TEST_F(Checkpoint, SurvivesMutations) {
  using Clock = std::chrono::steady_clock;
  const std::uint64_t rounds = testing::is_long_run() ? 100'000 : 5'000;
  const auto begin = Clock::now();
  const auto checkpoint = save(1);
  const auto other = save(2);
  const auto names = all_files();
  const auto peak_before = testing::peak_memory_kib();
  Clock::duration slowest{};
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(testing::mutation_seed(), 2, round);
    const auto& name = names[stream.below(names.size())];
    const auto foreign = stream.below(2) == 0
                             ? read_bytes(other / name)
                             : read_bytes(checkpoint / names[stream.below(names.size())]);
    const auto good = read_bytes(checkpoint / name);
    auto bytes = good;
    const std::uint64_t changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) mutate(bytes, foreign, stream);
    write_bytes(checkpoint / name, bytes);
    const auto read_from = Clock::now();
    const auto answer = refusal(checkpoint);
    slowest = std::max(slowest, Clock::now() - read_from);
    write_bytes(checkpoint / name, good);
    ASSERT_EQ(answer == "accepted", bytes == good) << name << ", round " << round << ": " << answer;
    accepted += bytes == good ? 1 : 0;
  }
  EXPECT_LT(accepted, rounds / 4);  // most were other bytes
  EXPECT_LT(slowest, std::chrono::seconds(1));
  const auto grown_kib = testing::peak_memory_kib() - peak_before;
  if (!testing::is_sanitised()) {
    EXPECT_LT(grown_kib, 64 * 1024);
  }
  if (testing::is_long_run()) {
    const std::chrono::duration<double> taken = Clock::now() - begin;
    const std::chrono::duration<double, std::milli> longest = slowest;
    std::cout << "checkpoint mutations: seed " << testing::mutation_seed() << ", " << rounds
              << " files, " << taken.count() << " s, slowest " << longest.count()
              << " ms, peak memory grew by " << grown_kib << " KiB\n";
  }
}

TEST_F(Checkpoint, WithoutOneOfItsFilesIsRefusedByItsName) {
  const auto checkpoint = save(1);
  for (const auto& name : all_files()) {
    const auto bytes = read_bytes(checkpoint / name);
    std::filesystem::remove(checkpoint / name);
    EXPECT_THAT(refusal(checkpoint), HasSubstr(name));
    std::filesystem::create_directory(checkpoint / name);
    EXPECT_THROW(Everything{checkpoint}, Error) << name;
    std::filesystem::remove(checkpoint / name);
    write_bytes(temp_.path() / "elsewhere", bytes);
    std::filesystem::create_symlink(temp_.path() / "elsewhere", checkpoint / name);
    EXPECT_THROW(Everything{checkpoint}, Error) << name;
    std::filesystem::remove(checkpoint / name);
    write_bytes(checkpoint / name, bytes);
  }
  EXPECT_EQ(refusal(checkpoint), "accepted");
}

TEST_F(Checkpoint, WhoseManifestLacksAFileIsRefusedByItsName) {
  const auto checkpoint = save(1);
  const auto manifest = read_manifest(checkpoint);
  for (const char* name : kFiles) {
    if (name == std::string_view("state.safetensors")) continue;  // which not every run has
    auto fewer = manifest;
    std::erase_if(fewer.files, [&](const ManifestFile& file) { return file.name == name; });
    commit_again(checkpoint, fewer);
    EXPECT_THAT(refusal(checkpoint), HasSubstr(concat("its manifest has no '", name, "'")));
  }
  commit_again(checkpoint, manifest);
  const SavedCheckpoint saved(checkpoint);
  for (int rank : {2, -1, 1'000'000}) EXPECT_THROW(saved.rank(rank), CheckpointError);
}

TEST_F(Checkpoint, WithAFileThatCarriesNoChecksumsIsRefused) {
  const auto checkpoint = save(1);
  auto manifest = read_manifest(checkpoint);
  const std::string json = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(json.size());
  write_bytes(checkpoint / "model.safetensors", bytes + json + "x");
  manifest.files[0] = summed_file(checkpoint / "model.safetensors");
  commit_again(checkpoint, manifest);
  EXPECT_THAT(refusal(checkpoint), HasSubstr("model.safetensors"));
}

TEST_F(Checkpoint, OfALaterFormatIsRefusedWithTheVersionThatWroteIt) {
  const auto checkpoint = save(1);
  auto text = read_bytes(checkpoint / "manifest.json");
  const std::string format = "\"format\": 1";
  text.replace(text.find(format), format.size(), "\"format\": 2");
  text.resize(text.rfind("  \"sha256\""));
  Sha256 sum;
  sum.update(text.data(), text.size());
  write_bytes(checkpoint / "manifest.json",
              concat(text, "  \"sha256\": \"", sum.hex_digest(), "\"\n}\n"));
  EXPECT_THAT(refusal(checkpoint),
              AllOf(HasSubstr("written by torch-accelerated 0.1.0 in format 2"),
                    HasSubstr("manifest.json"), HasSubstr("use a newer one")));
}

TEST_F(Checkpoint, ThatWasNotCommittedIsRefused) {
  const auto checkpoint = folder_.begin(4);
  write_contents(system_io(), checkpoint, some_contents(4));
  EXPECT_THAT(refusal(checkpoint), HasSubstr("it has no manifest.json"));
  EXPECT_THAT(refusal(temp_.path() / "absent"), HasSubstr("it has no manifest.json"));
}

TEST_F(Checkpoint, ThatCanNotBeWrittenIsAFileErrorAtEachOperation) {
  const auto contents = some_contents(1);
  std::size_t operations = 0;
  std::int64_t update = 1;
  {
    testing::FaultyIo io;
    write_contents(io, folder_.begin(update++), contents);
    write_rank(io, folder_.begin(update++), 0, rank_tensors(0));
    operations = io.operations();
  }
  EXPECT_GE(operations, 5U * 4U);  // open, write, sync and close for each file
  for (std::size_t k = 1; k <= operations; ++k) {
    testing::FaultyIo io;
    io.fail_at(k, ENOSPC);
    const auto write = [&] {
      write_contents(io, folder_.begin(update++), contents);
      write_rank(io, folder_.begin(update++), 0, rank_tensors(0));
    };
    EXPECT_THROW(write(), FileError) << "operation " << k;
  }
  EXPECT_TRUE(folder_.scan().empty());
}

}  // namespace
}  // namespace torch_accelerated::checkpoint_files_test
