// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/run.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <memory>
#include <new>

#include "torch_accelerated/base/error.h"

namespace tests::run_test {
namespace {

namespace ta = torch_accelerated;

/// What `body` makes main return, and prints.
std::pair<int, std::string> outcome_of(const std::function<int()>& body) {
  testing::internal::CaptureStderr();
  const int status = ta::run(body);
  return {status, testing::internal::GetCapturedStderr()};
}

TEST(Run, ReturnsTheStatusOfTheBody) {
  EXPECT_EQ(ta::run([] {}), 0);
  EXPECT_EQ(ta::run([] { return 3; }), 3);
}

TEST(Run, AnErrorIsItsExitCodeAndOneLine) {
  using Outcome = std::pair<int, std::string>;
  EXPECT_EQ(outcome_of([]() -> int { throw ta::ArgumentError("train: no epochs"); }),
            Outcome(64, "train: no epochs\n"));
  EXPECT_EQ(outcome_of([]() -> int { throw ta::DataError("bad magic"); }),
            Outcome(65, "bad magic\n"));
  EXPECT_EQ(
      outcome_of([]() -> int { throw ta::CommunicationError("gone", ta::ExitCode::kMismatch); }),
      Outcome(76, "gone\n"));
  EXPECT_EQ(outcome_of([]() -> int { throw std::runtime_error("mine\nbacktrace"); }),
            Outcome(70, "mine\n"));
  EXPECT_EQ(outcome_of([]() -> int { throw 42; }).first, 70);
  EXPECT_EQ(outcome_of([]() -> int { throw std::bad_alloc(); }).first, 71);
}

TEST(Run, NamesTheRankThatTheErrorKnows) {
  const auto [status, text] = outcome_of([]() -> int {
    ta::StateError error("too early");
    error.set_rank(2);
    throw error;
  });
  EXPECT_EQ(text, "rank 2: too early\n");
}

/// Says when it is gone.
struct Noticed {
  std::shared_ptr<void> end{nullptr, [](void* /*unused*/) { std::fputs("gone, ", stderr); }};
};

TEST(Run, ReportsWhenTheErrorIsGone) {
  const auto [status, text] = outcome_of([]() -> int { throw Noticed(); });
  EXPECT_EQ(status, 70);
  EXPECT_THAT(text, testing::StartsWith("gone, something was thrown"));
}

TEST(Run, OfAllRanksOnlyTheFirstPrints) {
  const auto fail_on = [](int rank) {
    return outcome_of([rank]() -> int {
      ta::StateError error("all of us");
      error.set_rank(rank);
      error.set_on_all_ranks();
      throw error;
    });
  };
  EXPECT_EQ(fail_on(0).second, "all of us\n");
  EXPECT_EQ(fail_on(1).second, "");
}

}  // namespace
}  // namespace tests::run_test
