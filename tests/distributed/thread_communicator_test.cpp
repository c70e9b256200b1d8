// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/thread_communicator.h"

#include <gmock/gmock.h>

#include <functional>
#include <thread>

#include "support/communicator_checks.h"
#include "support/tiny.h"

namespace tests::thread_communicator_test {
namespace {

using testing::HasSubstr;

// Runs `body` on a thread for each rank.
void on_threads(int ranks, const std::function<void(ta::Communicator&)>& body) {
  const auto communicators = ta::make_thread_communicators(ranks);
  std::vector<std::thread> threads;
  for (const auto& communicator : communicators) {
    threads.emplace_back([&] { body(*communicator); });
  }
  for (auto& thread : threads) thread.join();
}

class ThreadCommunicator : public testing::TestWithParam<int> {};

TEST_P(ThreadCommunicator, Sums) {
  on_threads(GetParam(), [](ta::Communicator& communicator) {
    check_sums_of_every_dtype(communicator);
    check_sums_of_every_size(communicator, 20, 3);
    check_many_tensors_at_once(communicator);
    check_started_sums(communicator);
    check_reduce_scatter(communicator);
  });
}

TEST_P(ThreadCommunicator, AddsInBothOrders) { on_threads(GetParam(), check_both_orders); }

TEST_P(ThreadCommunicator, MakesBuffers) { on_threads(GetParam(), check_buffers); }

TEST_P(ThreadCommunicator, MovesTensorsAndBytes) {
  on_threads(GetParam(), [](ta::Communicator& communicator) {
    check_all_gather(communicator);
    check_all_gather_of_bytes(communicator);
    check_all_to_all(communicator);
    check_broadcast(communicator);
  });
}

TEST_P(ThreadCommunicator, HasIndependentDuplicates) { on_threads(GetParam(), check_duplicates); }

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadCommunicator, testing::Values(1, 2, 3, 4, 7));

TEST(ThreadCommunicatorFailure, ALateRankIsATimeout) {
  on_threads(3, [](ta::Communicator& communicator) {
    if (communicator.rank() == 2) return;
    communicator.set_timeout(std::chrono::milliseconds(100));
    EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator.barrier(); }),
                HasSubstr("barrier"));
    EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator.barrier(); }),
                HasSubstr("unusable"));
  });
}

TEST(ThreadCommunicatorFailure, AnAbortReachesThoseWhoWait) {
  on_threads(3, [](ta::Communicator& communicator) {
    if (communicator.rank() == 1) {
      return communicator.abort("the disk is full", ta::ExitCode::kInputOutput);
    }
    EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator.barrier(); }),
                HasSubstr("rank 1 has failed: the disk is full"));
  });
}

TEST(ThreadCommunicatorFailure, RefusesTensorsThatCannotBeSummed) {
  const auto communicators = ta::make_thread_communicators(1);
  std::vector<torch::Tensor> flags{torch::ones({2}, torch::kBool)};
  EXPECT_THROW(communicators[0]->all_reduce(flags), ta::ArgumentError);
  std::vector<torch::Tensor> strided{torch::ones({4, 4}).t().slice(0, 0, 2)};
  EXPECT_THROW(communicators[0]->all_reduce(strided), ta::ArgumentError);
  EXPECT_THROW(communicators[0]->all_gather(torch::tensor(1.0)), ta::ArgumentError);
  EXPECT_THROW(ta::make_thread_communicators(0), ta::ArgumentError);
}

}  // namespace
}  // namespace tests::thread_communicator_test
