// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "ranks/job.h"

namespace tests {

/// What becomes of a job in which one rank does something wrong.
struct Fault {
  const char* name;
  int status;         // mpirun's
  double seconds;     // allowed after the fault
  int causes;         // lines in which the library says why
  const char* cause;  // that is in the line; R is the rank
};

inline void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

/// For the trials of one test, such as which rank is at fault: others than another test's, and the
/// same in each run with one seed.
inline std::mt19937_64 random_of(const std::string& test) {
  std::vector<std::uint64_t> words(test.begin(), test.end());
  words.push_back(seed_of_trials());
  std::seed_seq seeds(words.begin(), words.end());
  return std::mt19937_64(seeds);
}

/// Expects that a job has ended as `fault` says, of which `rank` is at fault.
inline void expect_end(const JobEnd& end, const Fault& fault, int rank) {
  EXPECT_FALSE(end.was_killed);
  EXPECT_EQ(end.status, fault.status);
  EXPECT_GE(end.after_fault, 0);
  EXPECT_LE(end.after_fault, fault.seconds);
  EXPECT_EQ(end.orphans, 0);
  const auto causes = end.causes();
  EXPECT_THAT(causes, testing::SizeIs(fault.causes));
  if (causes.empty()) return;
  std::string cause = fault.cause;
  const auto at = cause.find(" R");
  if (at != std::string::npos) cause.replace(at + 1, 1, std::to_string(rank));
  EXPECT_THAT(causes.front(), testing::HasSubstr(cause));
}

}  // namespace tests
