// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"
#include "torch_accelerated/distributed/communicator.h"

namespace tests::self_communicator_test {
namespace {

TEST(SelfCommunicator, IsAWorldOfOne) {
  const auto communicator = ta::make_self_communicator();
  EXPECT_EQ(communicator->rank(), 0);
  EXPECT_EQ(communicator->size(), 1);
  std::vector<torch::Tensor> tensors{torch::ones({3}), torch::zeros({0})};
  communicator->all_reduce(tensors);
  EXPECT_TRUE(tensors[0].equal(torch::ones({3})));
  EXPECT_EQ(communicator->all_gather(tensors[0]).size(), 1U);
  std::string bytes = "kept";
  communicator->broadcast(bytes, 0);
  EXPECT_EQ(bytes, "kept");
  communicator->barrier();
}

TEST(SelfCommunicator, RefusesARootThatIsNotThere) {
  std::string bytes;
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { ta::make_self_communicator()->broadcast(bytes, 1); }),
      testing::HasSubstr("rank 1"));
}

}  // namespace
}  // namespace tests::self_communicator_test
