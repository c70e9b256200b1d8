// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_communicator.h"

#include <gmock/gmock.h>

#include "support/fake_nccl.h"
#include "support/tiny.h"

namespace tests::nccl_communicator_test {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Result = FakeNccl::Result;
using Tensors = std::vector<torch::Tensor>;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

TEST(NcclCommunicator, SeveralTensorsAreOneGroupOnTheSideStream) {
  Alone rank;
  Tensors tensors{torch::ones({2, 3}), torch::ones({0}), torch::ones({4}, torch::kInt64)};
  const auto pending = rank.communicator->start_all_reduce(tensors);
  EXPECT_THAT(
      rank.nccl.trace,
      ElementsAre("follow the current stream", "use a tensor", "use a tensor", "{", "group_start",
                  "all_reduce 6 of type 7", "all_reduce 4 of type 4", "group_end", "}", "mark"));
  rank.nccl.trace.clear();
  pending->wait();
  EXPECT_THAT(rank.nccl.trace, ElementsAre("hold the current stream"));
}

TEST(NcclCommunicator, NothingToSumIsNoCall) {
  Alone rank;
  Tensors tensors{torch::ones({0})};
  rank.communicator->all_reduce(tensors);
  rank.communicator->all_reduce(tensors, ta::SumOrder::kPairwise);
  rank.communicator->broadcast(tensors[0], 0);
  EXPECT_THAT(rank.nccl.trace, IsEmpty());
}

TEST(NcclCommunicator, ASumOfNothingEndsAfterWhatTheDeviceHasBeenAskedFor) {
  Alone rank;
  rank.nccl.device_is_done = false;
  rank.communicator->set_timeout(std::chrono::milliseconds(20));
  const auto end = rank.communicator->start_all_reduce({});
  EXPECT_THAT(rank.nccl.trace, ElementsAre("follow the current stream", "mark"));
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { end->wait_on_host(); }),
              HasSubstr("had not ended after 20 ms"));
  rank.nccl.device_is_done = true;
}

TEST(NcclCommunicator, PairwiseSumsAreTwoGroupsWhoseSendsGoRound) {
  std::vector<Trace> traces(3);
  const auto errors = with_ranks(3, [&](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    nccl.trace.clear();
    Tensors tensors{torch::ones({9})};
    communicator->all_reduce(tensors, ta::SumOrder::kPairwise);
    traces[static_cast<std::size_t>(control.rank())] = nccl.trace;
  });
  EXPECT_THAT(errors, Each(""));
  EXPECT_THAT(
      traces[1],
      ElementsAre("follow the current stream", "use a tensor", "{", "group_start", "send 12 to 2",
                  "recv 12 from 0", "send 12 to 0", "recv 12 from 2", "group_end", "group_start",
                  "send 12 to 2", "recv 12 from 0", "send 12 to 0", "recv 12 from 2", "group_end",
                  "}", "mark", "hold the current stream"));
}

TEST(NcclCommunicator, RankZerosIdIsEveryonesId) {
  std::vector<Trace> traces(3);
  const auto errors = with_ranks(3, [&](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    traces[static_cast<std::size_t>(control.rank())] = nccl.trace;
  });
  EXPECT_THAT(errors, Each(""));
  EXPECT_THAT(traces[0], ElementsAre("get_unique_id", "{", "comm_init_rank 0 of 3, id 1", "}"));
  EXPECT_THAT(traces[2], ElementsAre("{", "comm_init_rank 2 of 3, id 1", "}"));
}

TEST(NcclCommunicator, ADuplicateHasAnIdOfItsOwn) {
  Alone rank;
  rank.communicator->set_timeout(7ms);
  const auto copy = rank.communicator->duplicate();
  EXPECT_THAT(rank.nccl.trace,
              ElementsAre("get_unique_id", "{", "comm_init_rank 0 of 1, id 2", "}"));
  EXPECT_EQ(copy->timeout(), 7ms);
}

TEST(NcclCommunicator, ClosesInOrderAndOnce) {
  Alone rank;
  rank.nccl.answers["comm_finalize"] = Result::kInProgress;
  rank.nccl.states = {Result::kSuccess, Result::kInProgress, Result::kInProgress};
  rank.communicator->close();
  rank.communicator->close();
  rank.communicator->abort("too late", ta::ExitCode::kUserCode);
  EXPECT_THAT(rank.nccl.trace, ElementsAre("{", "comm_finalize", "comm_destroy", "}"));
  EXPECT_EQ(rank.nccl.polls, 4);  // of the barrier, and until the state was kSuccess
}

TEST(NcclCommunicator, ItsDestructorCallsNothing) {
  Alone rank;
  Tensors tensors{torch::ones({2})};
  auto pending = rank.communicator->start_all_reduce(tensors);
  rank.nccl.trace.clear();
  rank.nccl.polls = 0;
  rank.communicator.reset();
  pending.reset();
  EXPECT_THAT(rank.nccl.trace, IsEmpty());
  EXPECT_EQ(rank.nccl.polls, 0);
}

TEST(NcclCommunicator, MovesCpuTensorsAndBytesOverItsControl) {
  const auto errors = with_ranks(2, [](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl, c10::Device(c10::kCUDA, 0));
    nccl.trace.clear();
    const int rank = control.rank();
    Tensors tensors{torch::full({2}, rank + 1)};
    communicator->all_reduce(tensors);
    EXPECT_TRUE(tensors[0].equal(torch::full({2}, 3)));
    auto part = torch::zeros({1});
    communicator->reduce_scatter(part, torch::ones({2}));
    EXPECT_EQ(part.item<float>(), 2);
    EXPECT_EQ(communicator->all_gather(torch::ones({rank + 1}))[1].numel(), 2);
    EXPECT_EQ(communicator->all_to_all({torch::ones({1}), torch::ones({2})})[0].numel(), rank + 1);
    auto tensor = torch::full({1}, rank);
    communicator->broadcast(tensor, 1);
    EXPECT_EQ(tensor.item<int>(), 1);
    EXPECT_EQ(communicator->make_buffer(3, torch::ones({1})).numel(), 3);
    std::string bytes = rank == 0 ? "root's" : "";
    communicator->broadcast(bytes, 0);
    EXPECT_EQ(bytes, "root's");
    EXPECT_THAT(communicator->all_gather(std::string(static_cast<std::size_t>(rank), 'x')),
                ElementsAre("", "x"));
    EXPECT_THAT(nccl.trace, IsEmpty());
  });
  EXPECT_THAT(errors, Each(""));
}

TEST(NcclCommunicator, SumsTensorsOfBothKindsInOneCall) {
  const auto errors = with_ranks(2, [](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl, c10::kMeta);
    nccl.trace.clear();
    nccl.is_lost = true;  // tensors without data can't be summed
    Tensors tensors{torch::ones({3}), torch::ones({2}, torch::kMeta)};
    const auto pending = communicator->start_all_reduce(tensors);
    EXPECT_EQ(nccl.count("all_reduce 2"), 1);
    EXPECT_EQ(nccl.count("all_reduce"), 1);
    pending->wait();
    EXPECT_TRUE(tensors[0].equal(torch::full({3}, 2.)));
    EXPECT_EQ(nccl.count("hold the current stream"), 1);
  });
  EXPECT_THAT(errors, Each(""));
}

TEST(NcclCommunicator, RefusesATensorOfAnotherDevice) {
  Alone rank;
  Tensors tensors{torch::ones({2}), torch::ones({2}, torch::kMeta)};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { rank.communicator->all_reduce(tensors); }),
              AllOf(HasSubstr("all_reduce"), HasSubstr("meta"), HasSubstr("cpu")));
  EXPECT_THAT(rank.nccl.trace, IsEmpty());
  EXPECT_NO_THROW(rank.communicator->barrier());
}

}  // namespace
}  // namespace tests::nccl_communicator_test
