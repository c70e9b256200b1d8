// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstdlib>
#include <ostream>
#include <random>

#include "ranks/job.h"

namespace tests {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

/// What becomes of a run in which one rank fails alone.
struct Fault {
  const char* name;
  int status;        // mpirun's
  double seconds;    // allowed after the fault
  int causes;        // lines in which the library says why
  const char* what;  // in the line
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

constexpr Fault kFaults[] = {{"dataset", 65, 0.5, 1, "a cable was pulled"},
                             {"loss", 70, 0.5, 1, "train_step failed at epoch 1, update 5"},
                             {"optimizer", 70, 0.5, 1, "a cable was pulled"},
                             {"callback", 70, 0.5, 1, "on_train_step_end"},
                             {"evaluation", 70, 0.5, 1, "calculate_eval_batch_loss"},
                             {"int", 70, 0.5, 1, "an object that is no std::exception"},
                             {"memory", 71, 0.5, 1, "train_step failed at epoch 1, update 5"},
                             {"kill", 137, 2, 0, ""},
                             {"hang", 75, 2.5, 1, "did not come within 2000 ms"},
                             {"gather", 75, 2.5, 1, "did not come within 2000 ms"}};

std::uint64_t seed() {
  const char* text = std::getenv("TORCH_ACCELERATED_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

int trials() { return std::getenv("TORCH_ACCELERATED_LONG") == nullptr ? 1 : 20; }

class TrainerFault : public testing::TestWithParam<Fault> {};

TEST_P(TrainerFault, OfOneRankEndsTheJobWithOneLine) {
  const auto& fault = GetParam();
  std::mt19937_64 random(seed());
  for (int trial = 0; trial < trials(); ++trial) {
    const int ranks = 2 + static_cast<int>(random() % 2);
    const auto rank = std::to_string(random() % static_cast<unsigned>(ranks));
    const auto end = run_job(ranks, {TRAINER_FAULT_PROGRAM, fault.name, rank, "2000"});
    SCOPED_TRACE(testing::Message()
                 << fault.name << " on rank " << rank << " of " << ranks << "; stderr:\n"
                 << end.err);
    EXPECT_FALSE(end.was_killed);
    EXPECT_EQ(end.status, fault.status);
    EXPECT_GE(end.after_fault, 0);
    EXPECT_LE(end.after_fault, fault.seconds);
    EXPECT_EQ(end.orphans, 0);
    const auto causes = end.causes();
    ASSERT_THAT(causes, SizeIs(fault.causes));
    if (causes.empty()) continue;
    EXPECT_THAT(causes.front(), HasSubstr(fault.what));
  }
}

INSTANTIATE_TEST_SUITE_P(In, TrainerFault, testing::ValuesIn(kFaults),
                         [](const auto& fault) { return fault.param.name; });

TEST(TrainerJob, WithoutAFaultEndsWell) {
  const auto end = run_job(3, {TRAINER_FAULT_PROGRAM, "none", "0", "5000"});
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_EQ(end.orphans, 0);
}

}  // namespace
}  // namespace tests
