// SPDX-License-Identifier: Apache-2.0
#include "distributed/queued_communicator.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "torch_accelerated/distributed/thread_communicator.h"

namespace torch_accelerated::queued_communicator_test {
namespace {

void on_ranks(int size, const std::function<void(Communicator&)>& body) {
  std::vector<std::thread> threads;
  for (auto& communicator : make_thread_communicators(size)) {
    threads.emplace_back([&body, inner = std::move(communicator)]() mutable {
      const auto queued = make_queued_communicator(std::move(inner));
      body(*queued);
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(QueuedCommunicator, ReducesSeveralStartedOperationsInOrder) {
  on_ranks(3, [](Communicator& communicator) {
    std::vector<std::vector<torch::Tensor>> tensors;
    std::vector<std::unique_ptr<Pending>> pending;
    for (int i = 0; i < 20; ++i) {
      tensors.push_back({torch::full({5}, 1.0F + static_cast<float>(i))});
    }
    for (auto& own : tensors) pending.push_back(communicator.start_all_reduce(own));
    for (const auto& operation : pending) operation->wait();
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(torch::equal(tensors[static_cast<std::size_t>(i)][0],
                               torch::full({5}, 3.0F * (1.0F + static_cast<float>(i)))));
    }
    EXPECT_EQ(communicator.operations(), 20);
  });
}

TEST(QueuedCommunicator, OtherOperationsWaitForTheReductions) {
  on_ranks(2, [](Communicator& communicator) {
    std::vector<torch::Tensor> tensors{torch::ones({100'000})};
    const auto pending = communicator.start_all_reduce(tensors);
    const auto all = communicator.all_gather(torch::full({1}, communicator.rank()));
    EXPECT_EQ(all[1].item<int>(), 1);
    EXPECT_EQ(tensors[0][7].item<float>(), 2);
    pending->wait();
    communicator.close();
  });
}

TEST(QueuedCommunicator, AnErrorReachesWhoWaits) {
  on_ranks(2, [](Communicator& communicator) {
    if (communicator.rank() == 1) {
      communicator.abort("it is late", ExitCode::kUserCode);
      return;
    }
    std::vector<torch::Tensor> tensors{torch::ones({3})};
    const auto pending = communicator.start_all_reduce(tensors);
    EXPECT_THROW(pending->wait(), CommunicationError);
  });
}

// The thread may still be on its way back from the reduction that was waited for.
TEST(QueuedCommunicator, CanBeLeftAsSoonAsItsReductionsHaveBeenWaitedFor) {
  std::string said;
  for (int round = 0; round < 100; ++round) {
    on_ranks(2, [&](Communicator& communicator) {
      std::vector<torch::Tensor> tensors{torch::ones({3})};
      communicator.start_all_reduce(tensors)->wait();
      if (communicator.rank() == 0) return;
      communicator.set_timeout(std::chrono::milliseconds(2));
      try {
        communicator.barrier();  // nobody comes; what has been said of rank 0 is told
      } catch (const CommunicationError& error) {
        said += error.what();
      }
    });
  }
  EXPECT_THAT(said, ::testing::Not(::testing::HasSubstr("reductions under way")));
}

}  // namespace
}  // namespace torch_accelerated::queued_communicator_test
