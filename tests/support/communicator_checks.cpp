// SPDX-License-Identifier: Apache-2.0
#include "support/communicator_checks.h"

#include <gtest/gtest.h>

#include <random>

namespace tests {
namespace {

constexpr torch::ScalarType kSummed[] = {torch::kFloat16, torch::kBFloat16, torch::kFloat32,
                                         torch::kFloat64, torch::kUInt8,    torch::kInt8,
                                         torch::kInt16,   torch::kInt32,    torch::kInt64};

bool is_half(torch::ScalarType dtype) {
  return dtype == torch::kFloat16 || dtype == torch::kBFloat16;
}

torch::Tensor pairwise(const std::vector<torch::Tensor>& parts, std::size_t from, std::size_t to) {
  if (to - from == 1) return parts[from];
  std::size_t left = 1;
  while (left * 2 < to - from) left *= 2;
  return pairwise(parts, from, from + left) + pairwise(parts, from + left, to);
}

// Sizes below, at and above what goes another way inside.
std::int64_t random_numel(std::mt19937_64& random) {
  const std::int64_t limits[] = {3, 30, 300, 3'000, 30'000, 300'000};
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limits[random() % 6]));
}

}  // namespace

torch::Tensor numbers_of(int rank, torch::IntArrayRef sizes, torch::ScalarType dtype,
                         std::uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed * 1'000 + static_cast<std::uint64_t>(rank));
  if (torch::isIntegralType(dtype, false)) {
    return torch::randint(0, 100, sizes, generator, torch::kInt64).to(dtype);
  }
  return torch::randn(sizes, generator, torch::kFloat64).to(dtype);
}

torch::Tensor sum_of(int ranks, torch::IntArrayRef sizes, torch::ScalarType dtype,
                     ta::SumOrder order, std::uint64_t seed) {
  std::vector<torch::Tensor> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto part = numbers_of(rank, sizes, dtype, seed);
    parts.push_back(is_half(dtype) ? part.to(torch::kFloat32) : part);
  }
  if (order == ta::SumOrder::kPairwise) return pairwise(parts, 0, parts.size()).to(dtype);
  auto sum = parts[0];
  for (std::size_t rank = 1; rank < parts.size(); ++rank) sum = sum + parts[rank];
  return sum.to(dtype);
}

void check_sums_of_every_dtype(ta::Communicator& communicator) {
  for (const auto dtype : kSummed) {
    for (const std::int64_t numel : {0, 1, 7, 1'000, 40'000}) {
      std::vector<torch::Tensor> tensors{numbers_of(communicator.rank(), {numel}, dtype)};
      communicator.all_reduce(tensors);
      EXPECT_TRUE(torch::equal(tensors[0], sum_of(communicator.size(), {numel}, dtype)))
          << dtype << " " << numel;
    }
  }
}

void check_sums_of_every_size(ta::Communicator& communicator, int trials, std::uint64_t seed) {
  std::mt19937_64 random(seed);  // the same sizes on all ranks
  for (int trial = 0; trial < trials; ++trial) {
    const auto numel = random_numel(random);
    // Anywhere in a larger tensor: lines of the cache are cut.
    const auto offset = static_cast<std::int64_t>(random() % 20);
    const auto number = random();
    auto whole = torch::full({offset + numel + 3}, 5.0F);
    std::vector<torch::Tensor> tensors{whole.slice(0, offset, offset + numel)};
    tensors[0].copy_(numbers_of(communicator.rank(), {numel}, torch::kFloat32, number));
    communicator.all_reduce(tensors);
    EXPECT_TRUE(torch::equal(tensors[0], sum_of(communicator.size(), {numel}, torch::kFloat32,
                                                ta::SumOrder::kRankOrder, number)))
        << numel << " numbers at " << offset << ", seed " << seed;
    EXPECT_TRUE((whole.slice(0, 0, offset) == 5).all().item<bool>());
    EXPECT_TRUE((whole.slice(0, offset + numel) == 5).all().item<bool>());
  }
}

void check_both_orders(ta::Communicator& communicator) {
  for (const auto order : {ta::SumOrder::kRankOrder, ta::SumOrder::kPairwise}) {
    for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
      for (const std::int64_t numel : {5, 50'000}) {
        std::vector<torch::Tensor> tensors{numbers_of(communicator.rank(), {numel}, dtype)};
        communicator.all_reduce(tensors, order);
        EXPECT_TRUE(torch::equal(tensors[0], sum_of(communicator.size(), {numel}, dtype, order)));
      }
    }
  }
}

void check_many_tensors_at_once(ta::Communicator& communicator) {
  const std::vector<std::pair<std::vector<std::int64_t>, torch::ScalarType>> kinds = {
      {{3, 5}, torch::kFloat32},   {{70'000}, torch::kFloat64}, {{0}, torch::kFloat32},
      {{}, torch::kInt64},         {{9}, torch::kBFloat16},     {{11, 1'000}, torch::kFloat32},
      {{64, 64}, torch::kFloat64}, {{2, 0, 3}, torch::kInt32},  {{7}, torch::kUInt8}};
  std::vector<torch::Tensor> tensors;
  for (const auto& [sizes, dtype] : kinds) {
    tensors.push_back(numbers_of(communicator.rank(), sizes, dtype));
  }
  const auto before = communicator.operations();
  communicator.all_reduce(tensors);
  EXPECT_EQ(communicator.operations(), before + 1);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    EXPECT_TRUE(
        torch::equal(tensors[i], sum_of(communicator.size(), kinds[i].first, kinds[i].second)))
        << i;
  }
}

void check_buffers(ta::Communicator& communicator) {
  const auto like = torch::zeros({0});
  for (const std::int64_t numel : {0, 1, 1'000, 100'003}) {
    auto buffer = communicator.make_buffer(numel, like);
    EXPECT_TRUE(torch::equal(buffer, torch::zeros({numel})));
    for (int round = 0; round < 3; ++round) {
      buffer.copy_(numbers_of(communicator.rank(), {numel}, torch::kFloat32));
      std::vector<torch::Tensor> tensors{buffer};
      communicator.all_reduce(tensors);
      EXPECT_TRUE(torch::equal(buffer, sum_of(communicator.size(), {numel}, torch::kFloat32)));
    }
  }
  // Parts of a buffer, and a rank whose tensor is in no buffer.
  auto buffer = communicator.make_buffer(50'000, like);
  buffer.copy_(numbers_of(communicator.rank(), {50'000}, torch::kFloat32));
  const auto expected = sum_of(communicator.size(), {50'000}, torch::kFloat32);
  const bool has_own = communicator.rank() == 0;
  std::vector<torch::Tensor> parts{
      buffer.slice(0, 0, 10'001),
      has_own ? buffer.slice(0, 10'001, 30'000).clone() : buffer.slice(0, 10'001, 30'000)};
  communicator.all_reduce(std::span(parts).first(1));
  communicator.all_reduce(std::span(parts).last(1));
  EXPECT_TRUE(torch::equal(parts[0], expected.slice(0, 0, 10'001)));
  EXPECT_TRUE(torch::equal(parts[1], expected.slice(0, 10'001, 30'000)));
  EXPECT_TRUE(
      torch::equal(buffer.slice(0, 30'000),
                   numbers_of(communicator.rank(), {50'000}, torch::kFloat32).slice(0, 30'000)));
}

void check_started_sums(ta::Communicator& communicator) {
  std::vector<torch::Tensor> first{numbers_of(communicator.rank(), {9'000}, torch::kFloat32, 2)};
  std::vector<torch::Tensor> second{numbers_of(communicator.rank(), {9}, torch::kFloat64, 3)};
  const auto first_sum = communicator.start_all_reduce(first);
  const auto second_sum = communicator.start_all_reduce(second);
  communicator.barrier();
  second_sum->wait();
  first_sum->wait();
  const auto in_order = ta::SumOrder::kRankOrder;
  EXPECT_TRUE(
      torch::equal(first[0], sum_of(communicator.size(), {9'000}, torch::kFloat32, in_order, 2)));
  EXPECT_TRUE(
      torch::equal(second[0], sum_of(communicator.size(), {9}, torch::kFloat64, in_order, 3)));
}

void check_reduce_scatter(ta::Communicator& communicator) {
  const int ranks = communicator.size();
  for (const std::int64_t rows : {0, 1, 900}) {
    for (const auto dtype : {torch::kFloat32, torch::kFloat16, torch::kInt64}) {
      const std::vector<std::int64_t> sizes{rows * ranks, 7};
      auto part = torch::zeros({rows, 7}, dtype);
      communicator.reduce_scatter(part, numbers_of(communicator.rank(), sizes, dtype));
      const auto sum = sum_of(ranks, sizes, dtype);
      EXPECT_TRUE(torch::equal(part, sum.narrow(0, rows * communicator.rank(), rows)));
    }
  }
}

void check_all_gather(ta::Communicator& communicator) {
  // Rank 0 brings no rows, the last one the most; large ones go in pieces.
  for (const std::int64_t width : {1, 3, 5'000}) {
    const auto rows_of = [](int rank) { return std::int64_t{rank} * 3; };
    const int rank = communicator.rank();
    const auto all =
        communicator.all_gather(numbers_of(rank, {rows_of(rank), width}, torch::kFloat64));
    ASSERT_EQ(all.size(), static_cast<std::size_t>(communicator.size()));
    for (int peer = 0; peer < communicator.size(); ++peer) {
      EXPECT_TRUE(torch::equal(all[static_cast<std::size_t>(peer)],
                               numbers_of(peer, {rows_of(peer), width}, torch::kFloat64)));
    }
  }
  const auto flags = communicator.all_gather(torch::full({1}, communicator.rank() % 2 == 0));
  for (std::size_t peer = 0; peer < flags.size(); ++peer) {
    EXPECT_EQ(flags[peer].item<bool>(), peer % 2 == 0);
  }
}

void check_all_gather_of_bytes(ta::Communicator& communicator) {
  const auto of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank) * 50'000, static_cast<char>('a' + rank));
  };
  const auto all = communicator.all_gather(of(communicator.rank()));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(communicator.size()));
  for (int peer = 0; peer < communicator.size(); ++peer) {
    EXPECT_EQ(all[static_cast<std::size_t>(peer)], of(peer));
  }
}

void check_all_to_all(ta::Communicator& communicator) {
  const auto sizes_of = [](int from, int to) {
    return std::vector<std::int64_t>{std::int64_t{from} * 40 + to, 700};
  };
  std::vector<torch::Tensor> parts;
  const int rank = communicator.rank();
  for (int peer = 0; peer < communicator.size(); ++peer) {
    parts.push_back(numbers_of(rank, sizes_of(rank, peer), torch::kFloat32,
                               static_cast<std::uint64_t>(peer) + 1));
  }
  const auto received = communicator.all_to_all(parts);
  ASSERT_EQ(received.size(), static_cast<std::size_t>(communicator.size()));
  for (int peer = 0; peer < communicator.size(); ++peer) {
    EXPECT_TRUE(torch::equal(received[static_cast<std::size_t>(peer)],
                             numbers_of(peer, sizes_of(peer, rank), torch::kFloat32,
                                        static_cast<std::uint64_t>(rank) + 1)));
  }
}

void check_broadcast(ta::Communicator& communicator) {
  for (int root = 0; root < communicator.size(); ++root) {
    for (const std::int64_t numel : {0, 1, 100'000}) {
      auto tensor = numbers_of(communicator.rank(), {numel}, torch::kFloat32);
      communicator.broadcast(tensor, root);
      EXPECT_TRUE(torch::equal(tensor, numbers_of(root, {numel}, torch::kFloat32)));
      const auto text = [numel](int rank) {
        return std::string(static_cast<std::size_t>(numel), static_cast<char>('a' + rank));
      };
      std::string bytes = communicator.rank() == root ? text(root) : "of another length";
      communicator.broadcast(bytes, root);
      EXPECT_EQ(bytes, text(root));
    }
  }
}

void check_duplicates(ta::Communicator& communicator) {
  const auto first = communicator.duplicate();
  const auto second = first->duplicate();
  // Each is where it is, whatever the others do: the numbers of operations differ.
  std::vector<torch::Tensor> tensors{torch::ones({3})};
  first->all_reduce(tensors);
  second->barrier();
  first->all_reduce(tensors);
  communicator.all_reduce(tensors);
  const auto ranks = static_cast<float>(communicator.size());
  EXPECT_TRUE(torch::equal(tensors[0], torch::full({3}, ranks * ranks * ranks)));
  second->close();
  first->close();
  communicator.barrier();
  EXPECT_THROW(first->barrier(), ta::CommunicationError);
}

}  // namespace tests
