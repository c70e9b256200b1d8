// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ranks/worlds.h"
#include "support/communicator_checks.h"

namespace tests::failure_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// What `call` throws; fails where it throws nothing.
template <class Call>
std::pair<ta::ExitCode, std::string> failure_of(Call&& call) {
  try {
    call();
  } catch (const ta::CommunicationError& error) {
    return {error.exit_code(), error.what()};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

/// Failures in a caller's communicator: every rank throws, and the program goes on.
class MpiFailure : public Worlds {
 protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    ASSERT_GE(size_, 2);
    is_last_ = rank_ == size_ - 1;
  }
  // Ranks leave a test together, whatever they found out when.
  void TearDown() override { MPI_Barrier(MPI_COMM_WORLD); }

  // All ranks throw that they have parted, and name rank 0 and the last one with what they called.
  void expect_mismatch(ta::Communicator& communicator, const std::function<void()>& call,
                       const std::string& first, const std::string& last) const {
    const auto [exit_code, text] = failure_of(call);
    EXPECT_EQ(exit_code, ta::ExitCode::kMismatch);
    EXPECT_THAT(text, AllOf(HasSubstr("rank 0 called " + first),
                            HasSubstr("rank " + std::to_string(size_ - 1) + " called " + last)));
    EXPECT_THROW(communicator.barrier(), ta::CommunicationError);
  }

  int rank_ = 0;
  int size_ = 0;
  bool is_last_ = false;
};

TEST_P(MpiFailure, AnotherOperationIsAMismatch) {
  auto world = make_world();
  std::vector<torch::Tensor> tensors{torch::ones({3})};
  expect_mismatch(
      *world.control,
      [&] {
        if (is_last_) return world.control->barrier();
        world.control->all_reduce(tensors);
      },
      "all_reduce number 1", "barrier number 1");
}

TEST_P(MpiFailure, AnotherCountIsAMismatch) {
  auto world = make_world();
  std::vector<torch::Tensor> tensors{torch::ones({is_last_ ? 70'000 : 70'001})};
  expect_mismatch(
      *world.gradients, [&] { world.gradients->all_reduce(tensors); },
      "all_reduce number 1 (Float [70001]", "all_reduce number 1 (Float [70000]");
}

TEST_P(MpiFailure, AnotherDtypeOfAsManyBytesIsAMismatch) {
  auto world = make_world();
  std::vector<torch::Tensor> tensors{is_last_ ? torch::ones({4}, torch::kFloat64)
                                              : torch::ones({8})};
  expect_mismatch(
      *world.gradients, [&] { world.gradients->all_reduce(tensors); }, "all_reduce number 1 (Float",
      "all_reduce number 1 (Double");
}

TEST_P(MpiFailure, AnotherRowShapeIsAMismatch) {
  auto world = make_world();
  expect_mismatch(
      *world.control, [&] { world.control->all_gather(torch::ones({rank_, is_last_ ? 3 : 2})); },
      "all_gather number 1 (Float [0, 2]", "all_gather number 1 (Float [");
}

TEST_P(MpiFailure, AnotherRootIsAMismatch) {
  auto world = make_world();
  auto tensor = torch::ones({3});
  expect_mismatch(
      *world.control, [&] { world.control->broadcast(tensor, is_last_ ? 1 : 0); },
      "broadcast number 1 (from rank 0", "broadcast number 1 (from rank 1");
}

TEST_P(MpiFailure, AnOperationMoreIsAMismatchAtTheNext) {
  auto world = make_world();
  std::vector<torch::Tensor> tensors{torch::ones({3})};
  world.control->barrier();
  expect_mismatch(
      *world.control,
      [&] {
        if (is_last_) world.control->barrier();
        world.control->all_reduce(tensors);
      },
      "all_reduce number 2", "barrier number 2");
}

TEST_P(MpiFailure, ALateRankIsNamed) {
  auto world = make_world();
  world.control->barrier();
  world.control->set_timeout(std::chrono::milliseconds(300));
  const auto start = std::chrono::steady_clock::now();
  if (is_last_) std::this_thread::sleep_for(std::chrono::milliseconds(1'500));
  // The late rank finds all others there, and nobody at the next one.
  const auto [exit_code, text] = failure_of([&] {
    world.control->barrier();
    if (is_last_) world.control->barrier();
  });
  EXPECT_EQ(exit_code, ta::ExitCode::kTimeout);
  const auto late = "rank " + std::to_string(size_ - 1) + " did not come within 300 ms";
  EXPECT_THAT(text, AllOf(HasSubstr("barrier number 2 (0 bytes): "), HasSubstr(late)));
  EXPECT_EQ(text.find("rank 0 did not come"), std::string::npos) << text;
  EXPECT_THAT(text, HasSubstr("last seen in barrier number 1"));
  if (!is_last_) {
    const auto waited = std::chrono::steady_clock::now() - start;
    EXPECT_GE(waited, std::chrono::milliseconds(300));
    EXPECT_LE(waited, std::chrono::milliseconds(300 + 500));
  }
}

TEST_P(MpiFailure, ASlowRankInTimeIsNoFailure) {
  auto world = make_world();
  world.control->set_timeout(std::chrono::milliseconds(1'000));
  for (int round = 0; round < 2; ++round) {
    if (is_last_) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    world.control->barrier();
  }
  world.close();
}

TEST_P(MpiFailure, AnAbortReachesThoseWhoWait) {
  auto world = make_world();
  const auto start = std::chrono::steady_clock::now();
  if (is_last_) {
    world.abort("the disk is full", ta::ExitCode::kInputOutput);
    EXPECT_THROW(world.gradients->barrier(), ta::CommunicationError);
    return;
  }
  const auto [exit_code, text] = failure_of([&] { world.gradients->barrier(); });
  EXPECT_EQ(exit_code, ta::ExitCode::kInputOutput);
  EXPECT_THAT(text, HasSubstr("has failed: the disk is full"));
  EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500));
}

TEST_P(MpiFailure, AnAbortReachesDuplicates) {
  auto world = make_world();
  auto duplicate = world.control->duplicate();
  if (is_last_) {
    duplicate->barrier();  // before all have theirs, the abort would reach the making of it
    return world.abort("out of memory", ta::ExitCode::kOutOfMemory);
  }
  const auto [exit_code, text] = failure_of([&] {
    duplicate->barrier();
    duplicate->barrier();
  });
  EXPECT_EQ(exit_code, ta::ExitCode::kOutOfMemory);
  EXPECT_THAT(text, HasSubstr("out of memory"));
}

TEST_P(MpiFailure, RefusesBooleansBeforeAnythingIsSent) {
  auto world = make_world();
  std::vector<torch::Tensor> flags{torch::ones({2}, torch::kBool)};
  EXPECT_THROW(world.gradients->all_reduce(flags), ta::ArgumentError);
  world.gradients->barrier();
  world.close();
}

INSTANTIATE_TEST_SUITE_P(Over, MpiFailure, testing::Bool(), name_of);

}  // namespace
}  // namespace tests::failure_ranks_test
