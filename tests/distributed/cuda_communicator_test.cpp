// SPDX-License-Identifier: Apache-2.0
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>

#include <thread>

#include "distributed/device_communicator.h"
#include "distributed/nccl_communicator.h"
#include "distributed/staged_communicator.h"
#include "support/tiny.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

const c10::Device kDevice(c10::kCUDA, 0);

class CudaCommunicator : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

// Keeps the current stream busy for some milliseconds, so that what doesn't wait for it is too
// early.
torch::Tensor late_ones(std::int64_t numel, torch::Dtype dtype = torch::kFloat32) {
  auto work = torch::randn({4096, 4096}, kDevice);
  for (int i = 0; i < 8; ++i) work = work.mm(work) * 1e-3;
  return ((work.flatten().slice(0, 0, 1) * 0).nan_to_num(0, 0, 0) + torch::ones({numel}, kDevice))
      .to(dtype);
}

TEST_F(CudaCommunicator, MovesTensorsOfAWorldOfOneByNccl) {
  if (!ta::has_nccl()) GTEST_SKIP() << "skipped: built without NCCL";
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
  if (!ta::has_nccl()) GTEST_SKIP() << "skipped: built without NCCL";
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

TEST_F(CudaCommunicator, TwoRanksOnOneGpuAreStagedAndKnowWhyTheyAreNotByNccl) {
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
        if (!ta::has_nccl()) return;
        host.set_timeout(20s);
        EXPECT_THROW(ta::make_nccl_communicator(host, kDevice), ta::CommunicationError);
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(errors, Each(""));
}

}  // namespace
}  // namespace tests
