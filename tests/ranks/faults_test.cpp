// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <string>
#include <vector>

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
// What it takes to do so where there is no MPI yet to end the job by.
constexpr double kWithoutMpi = 1.5;

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
    {"before", 75, kTimeout + kWithoutMpi, 1, "not all ranks came within 2000 ms"},
    {"second", 75, kTimeout + kAtOnce, 1, "not all ranks came within 2000 ms"},
    {"stop", 75, kTimeout + kAtOnce, 1,
     "rank R did not come within 2000 ms, last seen in all_reduce number 5"},
    {"sleep", 75, kTimeout + kAtOnce, 1,
     "rank R did not come within 2000 ms, last seen in all_reduce number 5"},
    {"alone", 75, kTimeout + kAtOnce, 1, " did not come within 2000 ms, last seen in "},
    {"other_operation", 76, kAtOnce, 1, "barrier number 6"},
    {"other_count", 76, kAtOnce, 1, "Float [2999]"},
    {"other_dtype", 76, kAtOnce, 1, "Int [3000]"}};

// In a long run, those of RELIABILITY.md: F1 for kills and F3 for three ways not to come.
int trials_of(const Fault& fault) {
  const std::string name = fault.name;
  if (name == "kill") return number_of_trials(10, 200);
  const bool hangs = name == "stop" || name == "sleep" || name == "alone";
  return number_of_trials(1, hangs ? 100 : 20);
}

class RankFault : public testing::TestWithParam<Fault> {};

TEST_P(RankFault, EndsTheJobAndIsToldOnce) {
  const auto& fault = GetParam();
  auto random = random_of(fault.name);
  for (int trial = 0; trial < trials_of(fault); ++trial) {
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

// Starts the program as a launcher does whose ranks MPI knows nothing of.
JobEnd run_with_foreign_launcher(const char* transport) {
  return run_job(1, {"env", "-u", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE=2", FAULT_PROGRAM, "none", "0",
                     transport, "5000"});
}

TEST(RankJob, ForeignLauncherIsRefusedWithItsName) {
  const auto end = run_with_foreign_launcher("window");
  EXPECT_EQ(end.status, 70);
  EXPECT_THAT(end.err, HasSubstr("PMI_SIZE=2, set by a PMI launcher"));
  EXPECT_THAT(end.err, HasSubstr("MPI knows of one"));
}

TEST(RankJob, ForeignLauncherIsRefusedInACallersMpiToo) {
  for (const char* transport : {"callers", "given"}) {
    const auto end = run_with_foreign_launcher(transport);
    EXPECT_EQ(end.status, 70) << transport;
    EXPECT_THAT(end.err, HasSubstr("PMI_SIZE=2, set by a PMI launcher")) << transport;
    EXPECT_THAT(end.out, HasSubstr("MPI_Finalized is 0")) << transport;
  }
}

TEST(RankJob, OneProcessDoesNotTouchMpi) {
  const auto end = run_job(1, {"env", "-u", "OMPI_COMM_WORLD_SIZE", "-u", "PMIX_RANK",
                               FAULT_PROGRAM, "none", "9", "window", "5000"});
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("rank 0 is done, MPI_Initialized is 0"));
}

// How often `part` stands in `text`.
int count_of(const std::string& part, const std::string& text) {
  int count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(RankJob, AnotherMpiLibraryIsToldOnce) {
  const auto end = run_job(3, {FAULT_PROGRAM, "none", "9", "window", "5000"},
                           {"TESTS_MPI_LIBRARY=Open MPI v99.1, of nobody"});
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_EQ(count_of("but Open MPI 99 is loaded", end.err), 1) << end.err;
}

TEST(RankJob, RanksWithDifferentMpiLibrariesAreRefused) {
  const auto end = run_job(1, {FAULT_PROGRAM, "none", "9", "window", "5000", ":", "-n", "1", "env",
                               "TESTS_MPI_LIBRARY=Open MPI v4.99, of nobody", FAULT_PROGRAM, "none",
                               "9", "window", "5000"});
  EXPECT_EQ(end.status, 76) << end.err;
  EXPECT_EQ(count_of("make_world: the MPI library is ", end.err), 1) << end.err;
  EXPECT_THAT(end.err, HasSubstr("and Open MPI v4.99, of nobody on rank 1"));
  EXPECT_EQ(end.orphans, 0);
}

TEST(RankJob, AnErrorThatMpiReturnsIsToldOnce) {
  const Fault fault{"mpi_error", 75, kAtOnce, 1, "rank R: MPI_Iallgather failed: MPI_ERR_COUNT"};
  const auto end = run_job(3, {FAULT_PROGRAM, fault.name, "1", "messages", "5000"});
  SCOPED_TRACE(end.err);
  expect_end(end, fault, 1);
}

TEST(RankJob, SumsInOtherMemoryWhereThereIsNoWindowForABuffer) {
  const std::vector<std::string> command = {FAULT_PROGRAM, "none", "9", "buffer", "5000"};
  const char* warning = "too little shared memory in /dev/shm for a buffer of 12000 bytes";
  const auto with = run_job(2, command);
  EXPECT_EQ(with.status, 0) << with.err;
  EXPECT_EQ(count_of(warning, with.err), 0);
  const auto without = run_job(2, command, {"TESTS_WINDOWS=2"});
  EXPECT_EQ(without.status, 0) << without.err;
  EXPECT_EQ(count_of(warning, without.err), 1) << without.err;
}

}  // namespace
}  // namespace tests
