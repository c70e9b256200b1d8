// SPDX-License-Identifier: Apache-2.0
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>

#include "support/fake_nccl.h"
#include "support/tiny.h"

namespace tests::nccl_ranks_test {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;

const auto kDtypes = {torch::kFloat16, torch::kBFloat16, torch::kFloat32,
                      torch::kFloat64, torch::kUInt8,    torch::kInt8,
                      torch::kInt16,   torch::kInt32,    torch::kInt64};

// Numbers of which sums in another order have other bits, others on each rank.
torch::Tensor numbers(int rank, c10::IntArrayRef sizes, torch::Dtype dtype = torch::kFloat32) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(rank));
  return (torch::randn(sizes, generator, torch::kFloat64) * 100).to(dtype);
}

Tensors all_numbers(int rank) {
  Tensors tensors;
  for (const auto dtype : kDtypes) {
    for (const auto numel : {0, 1, 3, 1001}) tensors.push_back(numbers(rank, {numel}, dtype));
  }
  return tensors;
}

void expect_equal(const Tensors& left, const Tensors& right) {
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].dtype(), right[i].dtype());
    EXPECT_TRUE(left[i].equal(right[i])) << "tensor " << i << ", " << left[i].dtype();
  }
}

class NcclRanks : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Of, NcclRanks, ::testing::Values(1, 2, 3, 4, 5));

// What `body` returns over NCCL is what it returns over threads.
void expect_same(int size, const std::function<Tensors(ta::Communicator&)>& body) {
  const auto errors = with_ranks(size, [&](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    const auto expected = body(control);
    expect_equal(body(*communicator), expected);
    communicator->close();
  });
  EXPECT_THAT(errors, Each(""));
}

TEST_P(NcclRanks, SumPairwiseAsTheCpuDoesBitForBit) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    auto tensors = all_numbers(communicator.rank());
    communicator.all_reduce(tensors, ta::SumOrder::kPairwise);
    return tensors;
  });
}

TEST_P(NcclRanks, SumEveryDtypeAlsoInt16) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    auto tensors = all_numbers(communicator.rank());
    communicator.all_reduce(tensors);
    return tensors;
  });
}

TEST_P(NcclRanks, ScatterSums) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    Tensors parts;
    const std::int64_t size = communicator.size();
    for (const auto dtype : kDtypes) {
      const auto whole = numbers(communicator.rank(), {size * 3, 2}, dtype);
      parts.push_back(torch::zeros({3, 2}, dtype));
      communicator.reduce_scatter(parts.back(), whole);
    }
    return parts;
  });
}

TEST_P(NcclRanks, GatherEvenUnevenAndEmptyRows) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    Tensors all;
    const int rank = communicator.rank();
    for (const int rows : {4, 0, rank, rank == 0 ? 3 : 0}) {
      const auto parts = communicator.all_gather(numbers(rank, {rows, 2, 3}));
      all.insert(all.end(), parts.begin(), parts.end());
    }
    const auto flags = communicator.all_gather(numbers(rank, {rank + 1}) > 0);
    all.insert(all.end(), flags.begin(), flags.end());
    return all;
  });
}

TEST_P(NcclRanks, SendToEachWhatIsForIt) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    Tensors parts;
    for (int peer = 0; peer < communicator.size(); ++peer) {
      const int rows = (communicator.rank() + 2 * peer) % 3;
      parts.push_back(numbers(communicator.rank() * 10 + peer, {rows, 2}));
    }
    return communicator.all_to_all(parts);
  });
}

TEST_P(NcclRanks, BroadcastFromTheLast) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    auto tensor = numbers(communicator.rank(), {3, 5}, torch::kFloat64);
    communicator.broadcast(tensor, communicator.size() - 1);
    return Tensors{tensor};
  });
}

TEST(NcclCommunicator, RefusesRowsOfDifferentKindsOnAllRanks) {
  const auto errors = with_ranks(3, [](ta::Communicator& control, FakeNccl& nccl) {
    const auto communicator = over_fake(control, nccl);
    communicator->all_gather(torch::ones({2, control.rank() == 1 ? 4 : 3}));
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("rank 1 has Float (rows, 4)"),
                                 HasSubstr("rank 0 Float (rows, 3)"))));
}

}  // namespace
}  // namespace tests::nccl_ranks_test
