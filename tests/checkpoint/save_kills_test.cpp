// SPDX-License-Identifier: Apache-2.0
// A process that saves all the time is killed at random moments.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/output_file.h"
#include "checkpoint/retention.h"
#include "checkpoint/safetensors_file_writer.h"
#include "support/temp_dir.h"

namespace torch_accelerated {
namespace {

using torch_accelerated::testing::TempDir;

constexpr std::size_t kValues = 1 << 18;  // a megabyte

ManifestFile write_values(const std::filesystem::path& checkpoint, const std::string& name,
                          std::int64_t update) {
  const std::vector<float> values(kValues, static_cast<float>(update));
  const auto written =
      write_safetensors_file(system_io(), checkpoint / name,
                             {{"values", SafetensorsDtype::kF32, {kValues}, values.data()}});
  return {name, written.bytes, written.crc};
}

// What a run does, without training in between, until it is killed; tells each commit.
[[noreturn]] void save_all_the_time(const std::filesystem::path& directory, int told) {
  CheckpointFolder folder(directory);
  folder.create();
  folder.lock();
  folder.clean();
  std::int64_t update = 0;
  for (const auto& found : folder.scan()) update = std::max(update, found.manifest.update);
  for (;;) {
    ++update;
    const auto checkpoint = folder.begin(update);
    Manifest manifest{.library = "1", .update = update};
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
      manifest.files.push_back(write_values(checkpoint, name, update));
    }
    folder.commit(checkpoint, manifest);
    if (::write(told, &update, sizeof update) != sizeof update) ::_exit(1);
    const auto found = folder.scan();
    for (const auto old : to_remove(found, {.keep_newest = 2})) folder.remove(found[old]);
  }
}

int number_of_kills() { return std::getenv("TORCH_ACCELERATED_LONG") != nullptr ? 1000 : 100; }

std::uint64_t seed_of_kills() {
  const char* text = std::getenv("TORCH_ACCELERATED_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

TEST(Saves, SurviveKillsAtRandomMomentsAndLoseNothingThatWasCommitted) {
  const TempDir directory;
  std::mt19937_64 random(seed_of_kills());
  std::int64_t known = 0;  // the newest update that was told
  std::chrono::microseconds most(0);
  for (int kill = 0; kill < number_of_kills(); ++kill) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_all_the_time(directory.path(), pipe[1]);
    ::close(pipe[1]);
    const auto begin = std::chrono::steady_clock::now();
    if (kill == 0) {
      // Kills come within the time that four saves take here.
      ASSERT_EQ(::read(pipe[0], &known, sizeof known), static_cast<ssize_t>(sizeof known));
      most = 4 * std::chrono::duration_cast<std::chrono::microseconds>(
                     std::chrono::steady_clock::now() - begin);
    } else {
      std::this_thread::sleep_for(
          std::chrono::microseconds(random() % static_cast<std::uint64_t>(most.count())));
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (std::int64_t update = 0; ::read(pipe[0], &update, sizeof update) == sizeof update;) {
      known = update;
    }
    ::close(pipe[0]);
    const auto found = find_checkpoints(directory.path());
    EXPECT_TRUE(found.damaged.empty());
    for (const auto& checkpoint : found.committed) check_files(checkpoint, /*contents=*/true);
    if (known > 0) {
      ASSERT_FALSE(found.committed.empty());
      EXPECT_GE(found.committed.back().manifest.update, known);
    }
  }
  EXPECT_GT(known, number_of_kills() / 10);  // they weren't all killed before they began
}

}  // namespace
}  // namespace torch_accelerated
