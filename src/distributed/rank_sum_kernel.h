// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace torch_accelerated::detail {

/// `Bytes` of numbers that one instruction adds, anywhere in memory.
template <class Number, int Bytes>
struct Lanes {
  typedef Number Vector __attribute__((vector_size(Bytes)));
  static constexpr std::int64_t kCount = Bytes / sizeof(Number);

  [[gnu::always_inline]] static inline void load(Vector& into, const void* array, std::int64_t i) {
    std::memcpy(&into, static_cast<const Number*>(array) + i, Bytes);
  }
  [[gnu::always_inline]] static inline void store(void* array, std::int64_t i,
                                                  const Vector& vector) {
    std::memcpy(static_cast<Number*>(array) + i, &vector, Bytes);
  }
};

/// Two arrays into both of them, which is what two ranks do; returns how many numbers are done.
template <class Number, int Bytes>
[[gnu::always_inline]] inline std::int64_t sum_two_in_place(void* first, void* second,
                                                            std::int64_t count) {
  using L = Lanes<Number, Bytes>;
  std::int64_t i = 0;
  for (; i + 2 * L::kCount <= count; i += 2 * L::kCount) {
    typename L::Vector a, b, c, d;
    L::load(a, first, i);
    L::load(b, second, i);
    L::load(c, first, i + L::kCount);
    L::load(d, second, i + L::kCount);
    a += b;
    c += d;
    L::store(first, i, a);
    L::store(first, i + L::kCount, c);
    L::store(second, i, a);
    L::store(second, i + L::kCount, c);
  }
  return i;
}

/// Any number of arrays into any number; goes on at `i`.
template <class Number, int Bytes>
[[gnu::always_inline]] inline void sum_many(std::span<void* const> outs,
                                            std::span<const void* const> parts, std::int64_t i,
                                            std::int64_t count) {
  using L = Lanes<Number, Bytes>;
  for (; i + L::kCount <= count; i += L::kCount) {
    typename L::Vector sum, next;
    L::load(sum, parts[0], i);
    for (const void* part : parts.subspan(1)) {
      L::load(next, part, i);
      sum += next;
    }
    for (void* out : outs) L::store(out, i, sum);
  }
  for (; i < count; ++i) {
    auto sum = static_cast<const Number*>(parts[0])[i];
    for (const void* part : parts.subspan(1)) {
      sum = static_cast<Number>(sum + static_cast<const Number*>(part)[i]);
    }
    for (void* out : outs) static_cast<Number*>(out)[i] = sum;
  }
}

template <class Number, int Bytes>
[[gnu::always_inline]] inline void sum_with_lanes(std::span<void* const> outs,
                                                  std::span<const void* const> parts,
                                                  std::int64_t count) {
  std::int64_t done = 0;
  if (outs.size() == 2 && parts.size() == 2 && outs[0] == parts[0] && outs[1] == parts[1]) {
    done = sum_two_in_place<Number, Bytes>(outs[0], outs[1], count);
  }
  sum_many<Number, Bytes>(outs, parts, done, count);
}

#if defined(__x86_64__)
template <class Number>
[[gnu::target("avx512f,avx512bw")]] void sum_with_avx512(std::span<void* const> outs,
                                                         std::span<const void* const> parts,
                                                         std::int64_t count) {
  sum_with_lanes<Number, 64>(outs, parts, count);
}

template <class Number>
[[gnu::target("avx2")]] void sum_with_avx2(std::span<void* const> outs,
                                           std::span<const void* const> parts, std::int64_t count) {
  sum_with_lanes<Number, 32>(outs, parts, count);
}
#endif

/// Writes the sums in rank order to each of `outs`, with the widest instructions that the processor
/// has; the result is the same with all of them.
template <class Number>
void sum_in_rank_order(std::span<void* const> outs, std::span<const void* const> parts,
                       std::int64_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw")) return sum_with_avx512<Number>(outs, parts, count);
  if (__builtin_cpu_supports("avx2")) return sum_with_avx2<Number>(outs, parts, count);
#endif
  sum_with_lanes<Number, 16>(outs, parts, count);
}

}  // namespace torch_accelerated::detail
