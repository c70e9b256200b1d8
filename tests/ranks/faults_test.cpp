// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <random>

#include "ranks/fault.h"

namespace tests {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

constexpr int kTimeoutMs = 2'000;
constexpr double kTimeout = 2;
// What the launcher takes to see a lost process, and to end the others.
constexpr double kLaunchers = 2;
constexpr double kAtOnce = 0.5;

constexpr Fault kFaults[] = {
    {"kill", 137, kLaunchers, 0, ""},
    {"terminate", 134, kLaunchers, 0, ""},
    {"quick_exit_0", 1, kLaunchers, 0, ""},
    {"exit_3", 3, kAtOnce, 1, "rank R: the program has ended with status 3"},
    {"exit_0", 75, kAtOnce, 1, "rank R doesn't come, its program has ended with status 0"},
    {"throw", 65, kAtOnce, 1, "rank R: sample 7 is torn"},
    {"throw_int", 70, kAtOnce, 1, "rank R: something was thrown"},
    {"bad_alloc", 71, kAtOnce, 1, "rank R: out of memory"},
    {"abort", 74, kAtOnce, 1, "rank 9, update 3: no disk"},
    {"stop", 75, kTimeout + kAtOnce, 1, "rank R did not come within 2000 ms"},
    {"sleep", 75, kTimeout + kAtOnce, 1, "rank R did not come within 2000 ms"},
    {"alone", 75, kTimeout + kAtOnce, 1, "did not come within 2000 ms"},
    {"other_operation", 76, kAtOnce, 1, "barrier number 6"},
    {"other_count", 76, kAtOnce, 1, "Float [2999]"},
    {"other_dtype", 76, kAtOnce, 1, "Int [3000]"}};

std::mt19937_64& random_numbers() {
  static std::mt19937_64 random(seed_of_trials());
  return random;
}

int trials_of(const Fault& fault) {
  const bool kills = std::string(fault.name) == "kill";
  return number_of_trials(kills ? 10 : 1, kills ? 200 : 20);
}

class RankFault : public testing::TestWithParam<Fault> {};

TEST_P(RankFault, EndsTheJobAndIsToldOnce) {
  const auto& fault = GetParam();
  for (int trial = 0; trial < trials_of(fault); ++trial) {
    auto& random = random_numbers();
    const int ranks = 2 + static_cast<int>(random() % 3);
    const int rank = static_cast<int>(random() % static_cast<unsigned>(ranks));
    const char* transport = random() % 3 == 0 ? "messages" : "window";
    const auto end = run_job(ranks, {FAULT_PROGRAM, fault.name, std::to_string(rank), transport,
                                     std::to_string(kTimeoutMs)});
    SCOPED_TRACE(testing::Message() << fault.name << " on rank " << rank << " of " << ranks << ", "
                                    << transport << "; stderr:\n"
                                    << end.err);
    expect_end(end, fault, rank);
    RecordProperty("after_fault_ms", static_cast<int>(end.after_fault * 1e3));
  }
}

INSTANTIATE_TEST_SUITE_P(Of, RankFault, testing::ValuesIn(kFaults),
                         [](const auto& fault) { return fault.param.name; });

TEST(RankJob, EndsWellWithASlowRank) {
  for (const char* transport : {"window", "messages"}) {
    const auto end = run_job(3, {FAULT_PROGRAM, "slow", "1", transport, "1000"});
    EXPECT_EQ(end.status, 0) << end.err;
    EXPECT_THAT(end.causes(), SizeIs(0));
    for (const char* line : {"rank 0 is done", "rank 1 is done", "rank 2 is done"}) {
      EXPECT_THAT(end.out, HasSubstr(line));
    }
    EXPECT_EQ(end.orphans, 0);
  }
}

TEST(RankJob, FallsBackWhereMemoryIsShort) {
  // A folder without the room for a window: the job runs all the same, and says so.
  const auto end = run_job(2, {FAULT_PROGRAM, "none", "0", "window", "5000"},
                           {"OMPI_MCA_osc_sm_backing_directory=/proc"});
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(end.err, HasSubstr("can't share memory"));
}

TEST(RankJob, WorksAtEveryThreadLevel) {
  for (const char* level : {"0", "1", "2"}) {
    const std::vector<std::string> environment = {std::string("TESTS_THREAD_LEVEL=") + level};
    const bool fails = *level == '1';
    const auto end =
        run_job(2, {FAULT_PROGRAM, fails ? "throw" : "none", "0", "window", "5000"}, environment);
    EXPECT_EQ(end.status, fails ? 65 : 0) << end.err;
    EXPECT_THAT(end.err, HasSubstr("MPI lets one thread at a time call it"));
  }
}

TEST(RankJob, ForeignLauncherIsRefusedWithItsName) {
  const auto end = run_job(1, {"env", "-u", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE=2", FAULT_PROGRAM,
                               "none", "0", "window", "5000"});
  EXPECT_EQ(end.status, 70);
  EXPECT_THAT(end.err, HasSubstr("PMI_SIZE=2, set by a PMI launcher"));
  EXPECT_THAT(end.err, HasSubstr("MPI knows of one"));
}

}  // namespace
}  // namespace tests
