// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/fake_nccl.h"
#include "support/tiny.h"

namespace tests::nccl_failure_test {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Result = FakeNccl::Result;
using Tensors = std::vector<torch::Tensor>;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

TEST(NcclFailure, WaitsForCallsThatAreInProgress) {
  Alone rank;
  rank.nccl.answers["group_end"] = Result::kInProgress;
  rank.nccl.polls = 0;
  rank.nccl.states = {Result::kSuccess};
  for (int i = 0; i < 20; ++i) rank.nccl.states.push_back(Result::kInProgress);
  Tensors tensors{torch::ones({2})};
  const auto pending = rank.communicator->start_all_reduce(tensors);
  EXPECT_EQ(rank.nccl.polls, 22);
  EXPECT_EQ(rank.nccl.trace.back(), "mark");  // recorded after the work was there to be waited for
}

TEST(NcclFailure, AnErrorInTheBackgroundIsThrownByTheNextCallAndAbortsOnce) {
  Alone rank;
  Tensors tensors{torch::ones({2})};
  const auto pending = rank.communicator->start_all_reduce(tensors);
  rank.nccl.last_state = Result::kRemoteError;
  rank.nccl.trace.clear();
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { pending->wait(); }),
              AllOf(HasSubstr("all_reduce, operation 1"), HasSubstr("result 6 (the last error)"),
                    HasSubstr("another rank was probably lost")));
  EXPECT_THROW(rank.communicator->all_reduce(tensors), ta::CommunicationError);
  EXPECT_THROW(pending->wait(), ta::CommunicationError);
  EXPECT_THROW(rank.communicator->barrier(), ta::CommunicationError);
  rank.communicator->abort("gone", ta::ExitCode::kTimeout);
  rank.communicator.reset();
  EXPECT_THAT(rank.nccl.trace, ElementsAre("comm_abort"));
}

TEST(NcclFailure, ACallThatNeverEndsIsAbortedOnceAfterTheTimeout) {
  Alone rank;
  rank.communicator->set_timeout(30ms);
  rank.nccl.answers["group_end"] = Result::kInProgress;
  rank.nccl.state_after["group_end"] = Result::kInProgress;
  Tensors tensors{torch::ones({2})};
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(
      message_of<ta::CommunicationError>([&] { rank.communicator->all_reduce(tensors); }),
      AllOf(HasSubstr("all_reduce"), HasSubstr("30 ms"), HasSubstr("a rank didn't call it")));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 30ms);
  EXPECT_THROW(rank.communicator->all_reduce(tensors), ta::CommunicationError);
  rank.communicator->abort("gone", ta::ExitCode::kTimeout);
  EXPECT_EQ(rank.nccl.count("comm_abort"), 1);
  EXPECT_EQ(rank.nccl.count("mark"), 0);
}

TEST(NcclFailure, ABarrierWaitsForTheDeviceUpToTheTimeout) {
  Alone rank;
  Tensors tensors{torch::ones({2})};
  rank.communicator->all_reduce(tensors);
  rank.communicator->barrier();
  rank.communicator->set_timeout(30ms);
  rank.nccl.device_is_done = false;
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { rank.communicator->barrier(); }),
              HasSubstr("barrier"));
  EXPECT_EQ(rank.nccl.count("comm_abort"), 1);
}

TEST(NcclFailure, TheHostWaitsForAResultUpToTheTimeout) {
  Alone rank;
  rank.communicator->set_timeout(30ms);
  Tensors tensors{torch::ones({2})};
  rank.communicator->start_all_reduce(tensors)->wait_on_host();
  rank.nccl.device_is_done = false;
  const auto pending = rank.communicator->start_all_reduce(tensors);
  pending->wait();  // the device does, not the host
  EXPECT_EQ(rank.nccl.count("comm_abort"), 0);
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { pending->wait_on_host(); }),
              AllOf(HasSubstr("all_reduce, operation 2"), HasSubstr("30 ms")));
  EXPECT_EQ(rank.nccl.count("comm_abort"), 1);
}

TEST(NcclFailure, TheHostFindsAnErrorWhileItWaitsForAResult) {
  Alone rank;
  rank.nccl.device_is_done = false;
  Tensors tensors{torch::ones({2})};
  const auto pending = rank.communicator->start_all_reduce(tensors);
  rank.nccl.states = {Result::kSuccess, Result::kSuccess, Result::kRemoteError};
  EXPECT_THROW(pending->wait_on_host(), ta::CommunicationError);  // the timeout is minutes
  EXPECT_EQ(rank.nccl.count("comm_abort"), 1);
}

TEST(NcclFailure, AnUpdateThatTheDeviceNeverEndsIsAnErrorAfterTheTimeout) {
  auto controls = ta::make_thread_communicators(2);
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    ta::World world;
    world.gradients = over_fake(control, nccl);
    world.control = std::move(controls[static_cast<std::size_t>(control.rank())]);
    world.is_callers = true;
    ta::Accelerator ranks(
        std::move(world),
        {.device = "cpu", .overlap = ta::Overlap::kOff, .timeout = 30ms, .first_timeout = 60s});
    auto net = tiny_net();
    auto optimizer = sgd(net);
    const auto update = [&] {
      ranks.backward(net->forward(torch::ones({2, 4})).mean(), optimizer);
      ranks.step(optimizer);
    };
    update();
    nccl.device_is_done = false;
    EXPECT_THAT(message_of<ta::CommunicationError>(update), HasSubstr("30 ms"));
    EXPECT_EQ(nccl.count("comm_abort"), 1);
  });
  EXPECT_THAT(errors, Each(""));
}

TEST(NcclFailure, ABarrierFindsAnErrorBeforeTheTimeout) {
  Alone rank;
  Tensors tensors{torch::ones({2})};
  rank.communicator->all_reduce(tensors);
  rank.nccl.device_is_done = false;
  rank.nccl.states = {Result::kSuccess, Result::kSuccess, Result::kSystemError};
  EXPECT_THROW(rank.communicator->barrier(), ta::CommunicationError);  // the timeout is minutes
  EXPECT_EQ(rank.nccl.count("comm_abort"), 1);
}

TEST(NcclFailure, ALostRankIsKnownByItsNoticeAndStopsTheOthersWork) {
  std::vector<Trace> traces(2);
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    nccl.trace.clear();
    if (control.rank() == 1) {
      communicator->abort("user code threw", ta::ExitCode::kUserCode);
    } else {
      EXPECT_THROW(communicator->all_gather(torch::ones({2})), ta::CommunicationError);
      EXPECT_THROW(communicator->barrier(), ta::CommunicationError);
    }
    traces[static_cast<std::size_t>(control.rank())] = nccl.trace;
  });
  EXPECT_THAT(errors, Each(""));
  EXPECT_THAT(traces, Each(ElementsAre("comm_abort")));
}

TEST(NcclFailure, WaitsOnTheHostForTheOthersNoLongerThanItsTimeout) {
  const auto errors = with_ranks(2, [](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    communicator->set_timeout(20ms);
    if (control.rank() == 1) return;
    EXPECT_THAT(
        message_of<ta::CommunicationError>([&] { communicator->all_gather(torch::ones({2})); }),
        HasSubstr("20 ms"));
    EXPECT_EQ(nccl.count("comm_abort"), 1);
  });
  EXPECT_THAT(errors, Each(""));
}

TEST(NcclFailure, AGroupThatFailsInsideIsEndedAndAborted) {
  Alone rank;
  rank.nccl.answers["all_reduce"] = Result::kInvalidArgument;
  Tensors tensors{torch::ones({2}), torch::ones({3})};
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { rank.communicator->all_reduce(tensors); }),
              HasSubstr("result 4"));
  EXPECT_THAT(rank.nccl.trace,
              ElementsAre("follow the current stream", "use a tensor", "use a tensor", "{",
                          "group_start", "all_reduce 2 of type 7", "group_end", "comm_abort"));
}

TEST(NcclFailure, AnIdThatCannotBeMadeIsAnErrorOfAllRanks) {
  const auto errors = with_ranks(3, [](ta::Communicator& control, FakeNccl& nccl) {
    if (control.rank() == 0) nccl.answers["get_unique_id"] = Result::kSystemError;
    try {
      over_fake(control, nccl);
    } catch (const ta::CommunicationError& error) {
      EXPECT_TRUE(error.is_on_all_ranks());
      EXPECT_EQ(nccl.count("comm_init_rank"), 0);
      throw;
    }
  });
  EXPECT_THAT(errors, Each(HasSubstr("NCCL made no id: result 2")));
}

TEST(NcclFailure, ARankThatCannotJoinIsAnErrorOfAllRanks) {
  const auto errors = with_ranks(3, [](ta::Communicator& control, FakeNccl& nccl) {
    if (control.rank() == 2) nccl.answers["comm_init_rank"] = Result::kInvalidUsage;
    try {
      over_fake(control, nccl);
    } catch (const ta::CommunicationError& error) {
      EXPECT_TRUE(error.is_on_all_ranks());
      EXPECT_EQ(error.exit_code(), ta::ExitCode::kMismatch);
      EXPECT_EQ(nccl.count("comm_abort"), 1);
      throw;
    }
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("rank 2"), HasSubstr("two ranks on one GPU"))));
}

}  // namespace
}  // namespace tests::nccl_failure_test
