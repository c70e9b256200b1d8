// SPDX-License-Identifier: Apache-2.0
// Runs that are killed and stopped from outside, and started again.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <sstream>

#include "ranks/job.h"
#include "support/temp_dir.h"

namespace tests {
namespace {

using torch_accelerated::testing::TempDir;

JobEnd run(int ranks, const TempDir& folder, int signal = 0, int rank = 0, int after_ms = 0) {
  std::vector<std::string> command = {RESUMABLE_PROGRAM, folder.path().string()};
  if (signal != 0) {
    for (const int number : {signal, rank, after_ms}) command.push_back(std::to_string(number));
  }
  return run_job(ranks, command);
}

std::vector<int> numbers_behind(const std::string& out, const std::string& words) {
  std::vector<int> numbers;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(words)) numbers.push_back(std::stoi(line.substr(words.size())));
  }
  return numbers;
}

std::string hash_in(const std::string& out) {
  const auto at = out.find("weights sha256 ");
  return at == std::string::npos ? "" : out.substr(at, out.find('\n', at) - at);
}

std::string history_without_times(const TempDir& folder) {
  std::ifstream file(folder.path() / "history.jsonl");
  std::stringstream text;
  text << file.rdbuf();
  return std::regex_replace(text.str(),
                            std::regex("\"(seconds|eta_seconds|rows_per_second)\":[-+.0-9e]+"), "");
}

// The update of the newest committed checkpoint; 0 where there is none.
int newest_committed(const TempDir& folder) {
  int newest = 0;
  std::error_code none;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder.path() / "checkpoints", none)) {
    if (!std::filesystem::exists(entry.path() / "manifest.json")) continue;
    newest = std::max(newest, std::stoi(entry.path().filename().string().substr(7, 9)));
  }
  return newest;
}

class Resumable : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const auto end = run(GetParam(), whole_);
    ASSERT_EQ(end.status, 0) << end.err;
    hash_ = hash_in(end.out);
    ASSERT_NE(hash_, "");
    seconds_ = end.seconds;
  }

  void expect_as_whole(const JobEnd& end, const TempDir& folder) const {
    EXPECT_EQ(end.status, 0) << end.err;
    EXPECT_EQ(hash_in(end.out), hash_) << end.out << end.err;
    EXPECT_EQ(history_without_times(folder), history_without_times(whole_));
  }

  TempDir whole_;  // of the run that nothing happened to
  std::string hash_;
  double seconds_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Ranks, Resumable, testing::Values(1, 3));

TEST_P(Resumable, EndsAsTheRunThatNothingHappenedToHoweverOftenItIsKilled) {
  const int ranks = GetParam();
  std::mt19937_64 random(seed_of_trials() + static_cast<unsigned>(ranks));
  int kills = 0;
  for (const int wanted = number_of_trials(3, ranks == 1 ? 100 : 200); kills < wanted;) {
    const TempDir folder;
    JobEnd end;
    int known = 0;                      // the newest update that was said to be committed
    constexpr int kKillsOfOneRun = 10;  // then it may come to its end
    for (int start = 0; start <= kKillsOfOneRun; ++start) {
      const int after_ms = static_cast<int>(random() % 200);
      const int rank = static_cast<int>(random() % static_cast<unsigned>(ranks));
      const bool is_killed = kills < wanted && start < kKillsOfOneRun;
      end = is_killed ? run(ranks, folder, SIGKILL, rank, after_ms) : run(ranks, folder);
      for (const int update : numbers_behind(end.out, "committed "))
        known = std::max(known, update);
      EXPECT_GE(newest_committed(folder), known) << end.err;
      if (end.status == 0) break;
      ASSERT_EQ(end.status, 137) << end.out << end.err;
      ++kills;
    }
    expect_as_whole(end, folder);
  }
}

// Who gets which signal; mpirun passes on what it gets.
constexpr int kOneRank = 0;
constexpr int kEveryRank = -1;
constexpr int kMpirun = -2;
struct Sent {
  int signal;
  int to;
};
constexpr Sent kSent[] = {{SIGUSR1, kMpirun}, {SIGTERM, kOneRank}, {SIGTERM, kEveryRank},
                          {SIGUSR1, kMpirun}, {SIGINT, kOneRank},  {SIGINT, kEveryRank}};

TEST_P(Resumable, StopsAtOneUpdateOnASignalAndGoesOnAsIfNothingHadBeen) {
  const int ranks = GetParam();
  std::mt19937_64 random(seed_of_trials() + 10 + static_cast<unsigned>(ranks));
  int stopped_trials = 0;
  const int trials = number_of_trials(2, 150);
  for (int trial = 0; trial < trials; ++trial) {
    const TempDir folder;
    const auto sent = kSent[static_cast<std::size_t>(trial) % std::size(kSent)];
    const int any_rank = static_cast<int>(random() % static_cast<unsigned>(ranks));
    const int after_ms = 20 + static_cast<int>(random() % 150);
    SCOPED_TRACE(testing::Message() << "signal " << sent.signal << " to " << sent.to << " after "
                                    << after_ms << " ms; -2 is mpirun, -1 every rank");
    const auto stopped =
        run(ranks, folder, sent.signal, sent.to == kOneRank ? any_rank : sent.to, after_ms);
    ASSERT_EQ(stopped.status, 0) << stopped.out << stopped.err;
    const auto updates = numbers_behind(stopped.out, "stopped at ");
    if (updates.empty()) continue;  // it was through before
    ++stopped_trials;
    EXPECT_THAT(updates, testing::SizeIs(ranks));
    EXPECT_THAT(updates, testing::Each(newest_committed(folder)));
    expect_as_whole(run(ranks, folder), folder);
  }
  EXPECT_GT(stopped_trials, trials / 4);
}

}  // namespace
}  // namespace tests
