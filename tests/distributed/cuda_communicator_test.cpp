// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <thread>

#include "distributed/device_communicator.h"
#include "support/cuda_communicator.h"
#include "support/tiny.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests {
namespace {

TEST_F(CudaCommunicator, TwoRanksOnOneGpuAreStaged) {
  auto hosts = ta::make_thread_communicators(2);
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  threads.reserve(hosts.size());
  for (std::size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      errors[rank] = message_of<std::exception>([&] {
        auto& host = *hosts[rank];
        const auto staged = ta::make_device_communicator(host, kDevice, true);
        const auto one = static_cast<double>(rank) + 1;
        for (int repeat = 0; repeat < 50; ++repeat) {
          Tensors tensors{late_ones(1 << 16) * one, late_ones(5, torch::kBFloat16) * one};
          auto first = staged->start_all_reduce(std::span(tensors).first(1));
          auto second = staged->start_all_reduce(std::span(tensors).last(1));
          first->wait();
          second->wait();
          EXPECT_EQ(tensors[0].sum().item<double>(), 3 << 16);
          EXPECT_EQ(tensors[1].sum().item<double>(), 15);
        }
        auto part = torch::zeros({4}, kDevice);
        staged->reduce_scatter(part, late_ones(8));
        EXPECT_EQ(part.sum().item<double>(), 8);
        const auto gathered = staged->all_gather(late_ones(static_cast<std::int64_t>(rank)));
        EXPECT_EQ(gathered[1].sum().item<double>(), 1);
        EXPECT_TRUE(gathered[0].is_cuda());
        auto tensor = late_ones(3) * one;
        staged->broadcast(tensor, 1);
        EXPECT_EQ(tensor.sum().item<double>(), 6);
        staged->close();
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(errors, testing::Each(""));
}

}  // namespace
}  // namespace tests
