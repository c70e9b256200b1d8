// SPDX-License-Identifier: Apache-2.0
#include "distributed/rank_sum.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/text.h"
#include "distributed/rank_sum_kernel.h"

namespace torch_accelerated::detail {
namespace {

using Outs = std::span<void* const>;
using Parts = std::span<const void* const>;

// Numbers at a time: the partial sums of all ranks of a tree stay in the first-level cache.
constexpr std::int64_t kBlock = 512;

template <class Number, class Sum>
void set(Sum* sum, const Number* part, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] = static_cast<Sum>(part[i]);
}

template <class Number, class Sum>
void add(Sum* sum, const Number* part, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] += static_cast<Sum>(part[i]);
}

// The sum of these ranks, in `sum`; `spare` has room for the other halves.
template <class Number, class Sum>
void add_pairwise(Sum* sum, Parts parts, std::int64_t offset, std::int64_t count, Sum* spare) {
  if (parts.size() == 1) return set(sum, static_cast<const Number*>(parts[0]) + offset, count);
  std::size_t left = 1;
  while (left * 2 < parts.size()) left *= 2;
  add_pairwise<Number>(sum, parts.first(left), offset, count, spare);
  add_pairwise<Number>(spare, parts.subspan(left), offset, count, spare + kBlock);
  add(sum, spare, count);
}

template <class Number, class Sum>
void add_in_rank_order(Sum* sum, Parts parts, std::int64_t offset, std::int64_t count) {
  set(sum, static_cast<const Number*>(parts[0]) + offset, count);
  for (const void* part : parts.subspan(1)) {
    add(sum, static_cast<const Number*>(part) + offset, count);
  }
}

// By way of a block of sums: what a tree needs, and what is rounded only once.
template <class Number, class Sum>
void sum_in_blocks(Outs outs, Parts parts, std::int64_t count, SumOrder order) {
  std::array<Sum, kBlock> sum;
  std::vector<Sum> spare(order == SumOrder::kPairwise ? kBlock * 64 : 0);
  for (std::int64_t offset = 0; offset < count; offset += kBlock) {
    const auto length = std::min(kBlock, count - offset);
    if (order == SumOrder::kPairwise) {
      add_pairwise<Number>(sum.data(), parts, offset, length, spare.data());
    } else {
      add_in_rank_order<Number>(sum.data(), parts, offset, length);
    }
    for (void* out : outs) set(static_cast<Number*>(out) + offset, sum.data(), length);
  }
}

template <class Number>
void sum_numbers(Outs outs, Parts parts, std::int64_t count, SumOrder order) {
  // Up to three ranks a tree is the rank order.
  if (order == SumOrder::kPairwise && parts.size() > 3) {
    return sum_in_blocks<Number, Number>(outs, parts, count, order);
  }
  sum_in_rank_order<Number>(outs, parts, count);
}

}  // namespace

// Integers are added as unsigned ones, which wrap around where they overflow.
void sum_over_ranks(Outs outs, Parts parts, std::int64_t count, c10::ScalarType dtype,
                    SumOrder order) {
  switch (dtype) {
    case c10::ScalarType::Half:
      return sum_in_blocks<c10::Half, float>(outs, parts, count, order);
    case c10::ScalarType::BFloat16:
      return sum_in_blocks<c10::BFloat16, float>(outs, parts, count, order);
    case c10::ScalarType::Float:
      return sum_numbers<float>(outs, parts, count, order);
    case c10::ScalarType::Double:
      return sum_numbers<double>(outs, parts, count, order);
    case c10::ScalarType::Byte:
    case c10::ScalarType::Char:
      return sum_numbers<std::uint8_t>(outs, parts, count, order);
    case c10::ScalarType::Short:
      return sum_numbers<std::uint16_t>(outs, parts, count, order);
    case c10::ScalarType::Int:
      return sum_numbers<std::uint32_t>(outs, parts, count, order);
    case c10::ScalarType::Long:
      return sum_numbers<std::uint64_t>(outs, parts, count, order);
    default:
      throw ArgumentError(concat("all_reduce: the dtype ", dtype, " can't be summed"));
  }
}

void sum_over_ranks(void* out, Parts parts, std::int64_t count, c10::ScalarType dtype,
                    SumOrder order) {
  void* const outs[] = {out};
  sum_over_ranks(outs, parts, count, dtype, order);
}

}  // namespace torch_accelerated::detail
