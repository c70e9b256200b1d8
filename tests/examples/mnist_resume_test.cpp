// SPDX-License-Identifier: Apache-2.0
// The MNIST example, killed from outside and started again, alone and under mpirun.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_dir.h"

namespace tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;
using torch_accelerated::testing::TempDir;

void write_idx(const fs::path& path, const std::vector<std::uint32_t>& sizes, unsigned below) {
  std::ofstream file(path, std::ios::binary);
  for (const int byte : {0, 0, 8, static_cast<int>(sizes.size())})
    file.put(static_cast<char>(byte));
  std::size_t count = 1;
  for (const auto size : sizes) {
    count *= size;
    for (int shift = 24; shift >= 0; shift -= 8) file.put(static_cast<char>(size >> shift));
  }
  std::mt19937 random(7);
  while (count-- > 0) file.put(static_cast<char>(random() % below));
}

// As MNIST's test pair, of which a third is trained on: 32 updates of 32 images an epoch.
void write_images(const fs::path& folder) {
  write_idx(folder / "t10k-images-idx3-ubyte", {3000, 28, 28}, 256);
  write_idx(folder / "t10k-labels-idx1-ubyte", {3000}, 10);
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string hash_in(const std::string& out) {
  const auto at = out.find("weights sha256 ");
  return at == std::string::npos ? "" : out.substr(at, out.find('\n', at) - at);
}

// The update of the newest checkpoint's folder, committed or not; 0 where there is none.
int newest_folder(const fs::path& directory) {
  int newest = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("update-")) newest = std::max(newest, std::stoi(name.substr(7)));
  }
  return newest;
}

/// The example on so many ranks, 1 without mpirun.
class KilledMnistExample : public testing::TestWithParam<int> {
 protected:
  KilledMnistExample() { write_images(folder_.path()); }

  // In a process of its own, which doesn't outlive the test.
  pid_t start(const std::vector<std::string>& options) const {
    std::vector<std::string> words;
    if (GetParam() > 1) {
      words = {MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", std::to_string(GetParam())};
    }
    for (const auto& word : {std::string(EXAMPLES_DIR) + "/mnist", std::string("--data"),
                             folder_.path().string(), std::string("--epochs"), std::string("16"),
                             std::string("--global-batch-size"), std::string("32")}) {
      words.push_back(word);
    }
    words.insert(words.end(), options.begin(), options.end());
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const auto out = output().string();
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setsid();
    ::setenv("OMP_NUM_THREADS", "1", 1);
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), STDOUT_FILENO);
    ::dup2(STDOUT_FILENO, STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }

  // What it writes until its end, which has to be a good one.
  std::string run(const std::vector<std::string>& options) const {
    int status = 0;
    ::waitpid(start(options), &status, 0);
    const auto text = text_of(output());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
    return text;
  }

  // Kills it as soon as a checkpoint of `update` or later has been begun; whether it came to that.
  bool is_killed_at(int update) const {
    const pid_t pid = start(resumable());
    int status = 0;
    while (newest_folder(checkpoints()) < update) {
      if (::waitpid(pid, &status, WNOHANG) == pid) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

  std::vector<std::string> resumable() const {
    return {"--checkpoint-dir", checkpoints().string(), "--save-every-updates", "20", "--resume"};
  }
  fs::path checkpoints() const { return folder_.path() / "checkpoints"; }
  fs::path output() const { return folder_.path() / "output.txt"; }

 private:
  TempDir folder_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, KilledMnistExample, testing::Values(1, 2));

TEST_P(KilledMnistExample, EndsWithTheHashOfTheRunThatNothingHappenedTo) {
  const auto whole = run({});
  ASSERT_NE(hash_in(whole), "");
  for (const int update : {60, 160, 300}) {  // of 512
    ASSERT_TRUE(is_killed_at(update)) << update << '\n' << text_of(output());
  }
  const auto end = run(resumable());
  EXPECT_EQ(hash_in(end), hash_in(whole)) << end;
  // Which it would have as well where it began anew.
  EXPECT_THAT(whole, HasSubstr("\nEpoch 1/16\n"));
  EXPECT_THAT(end, Not(HasSubstr("\nEpoch 1/16\n")));
}

}  // namespace
}  // namespace tests
