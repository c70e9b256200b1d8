// SPDX-License-Identifier: Apache-2.0
// The real NCCL: for a build with it.
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>

#include <thread>

#include "distributed/device_communicator.h"
#include "distributed/nccl_communicator.h"
#include "support/cuda_communicator.h"
#include "support/tiny.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests {
namespace {

TEST_F(CudaCommunicator, MovesTensorsOfAWorldOfOneByNccl) {
  const auto control = ta::make_self_communicator();
  const auto communicator = ta::make_device_communicator(*control, kDevice, false);
  EXPECT_EQ(communicator->name(), "NCCL");
  for (const auto order : {ta::SumOrder::kRankOrder, ta::SumOrder::kPairwise}) {
    for (const auto dtype : {torch::kFloat16, torch::kBFloat16, torch::kFloat32, torch::kFloat64,
                             torch::kUInt8, torch::kInt8, torch::kInt16, torch::kInt64}) {
      Tensors tensors{late_ones(1000, dtype), torch::ones({0}, kDevice), torch::ones({3})};
      communicator->all_reduce(tensors, order);
      EXPECT_EQ(tensors[0].sum().item<double>(), 1000) << dtype;
      EXPECT_EQ(tensors[2].sum().item<double>(), 3);
    }
  }
  auto part = torch::zeros({500}, kDevice);
  communicator->reduce_scatter(part, late_ones(500));
  EXPECT_EQ(part.sum().item<double>(), 500);
  EXPECT_EQ(communicator->all_gather(late_ones(7)).at(0).sum().item<double>(), 7);
  EXPECT_EQ(communicator->all_to_all({late_ones(5)}).at(0).sum().item<double>(), 5);
  auto tensor = late_ones(9);
  communicator->broadcast(tensor, 0);
  EXPECT_EQ(tensor.sum().item<double>(), 9);
  EXPECT_TRUE(communicator->make_buffer(4, tensor).is_cuda());
  communicator->barrier();
  const auto copy = communicator->duplicate();
  Tensors tensors{late_ones(3)};
  const auto pending = copy->start_all_reduce(tensors);
  pending->wait();
  copy->close();
  EXPECT_EQ(tensors[0].sum().item<double>(), 3);
  communicator->close();
}

TEST_F(CudaCommunicator, DoesNotMakeTheHostWaitForAnAllReduce) {
  const auto control = ta::make_self_communicator();
  const auto communicator = ta::make_nccl_communicator(*control, kDevice);
  Tensors tensors{torch::ones({1000}, kDevice)};
  communicator->all_reduce(tensors);  // the first one makes connections
  torch::cuda::synchronize();
  auto work = torch::randn({8192, 8192}, kDevice);
  for (int i = 0; i < 20; ++i) work = work.mm(work) * 1e-3;
  communicator->all_reduce(tensors);
  const auto stream = c10::impl::VirtualGuardImpl(kDevice.type()).getStream(kDevice);
  EXPECT_FALSE(stream.query()) << "the host waited for the device";
  communicator->close();
}

TEST_F(CudaCommunicator, TwoRanksOnOneGpuAreRefusedByNccl) {
  auto hosts = ta::make_thread_communicators(2);
  std::vector<std::thread> threads;
  threads.reserve(hosts.size());
  for (auto& host : hosts) {
    threads.emplace_back([&host] {
      host->set_timeout(std::chrono::seconds(20));
      EXPECT_THROW(ta::make_nccl_communicator(*host, kDevice), ta::CommunicationError);
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace tests
