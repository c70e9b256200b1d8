// SPDX-License-Identifier: Apache-2.0
#include "distributed/cache_copy.h"

#include <cstring>

namespace torch_accelerated::detail {
namespace {

template <int Width, bool kTakes>
[[gnu::always_inline]] inline void copy_by_vectors(std::byte* into, std::byte* from,
                                                   std::int64_t bytes) {
  typedef std::uint64_t Vector __attribute__((vector_size(Width)));
  std::int64_t i = 0;
  for (; i + 2 * Width <= bytes; i += 2 * Width) {
    Vector first, second;
    std::memcpy(&first, from + i, Width);
    std::memcpy(&second, from + i + Width, Width);
    std::memcpy(into + i, &first, Width);
    std::memcpy(into + i + Width, &second, Width);
    if constexpr (kTakes) {
      // The compiler is not to see that this changes nothing.
      asm volatile("" : "+m"(from[i]) : : "memory");
      std::memcpy(from + i, &first, Width);
      std::memcpy(from + i + Width, &second, Width);
    }
  }
  for (; i < bytes; ++i) into[i] = from[i];
}

#if defined(__x86_64__)
template <bool kTakes>
[[gnu::target("avx512f")]] void copy_with_avx512(std::byte* into, std::byte* from,
                                                 std::int64_t bytes) {
  copy_by_vectors<64, kTakes>(into, from, bytes);
}

template <bool kTakes>
[[gnu::target("avx2")]] void copy_with_avx2(std::byte* into, std::byte* from, std::int64_t bytes) {
  copy_by_vectors<32, kTakes>(into, from, bytes);
}
#endif

template <bool kTakes>
void copy(std::byte* into, std::byte* from, std::int64_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return copy_with_avx512<kTakes>(into, from, bytes);
  if (__builtin_cpu_supports("avx2")) return copy_with_avx2<kTakes>(into, from, bytes);
#endif
  copy_by_vectors<16, kTakes>(into, from, bytes);
}

}  // namespace

void cache_copy(std::byte* into, const std::byte* from, std::int64_t bytes) {
  copy<false>(into, const_cast<std::byte*>(from), bytes);  // which is only read
}

void cache_take(std::byte* into, std::byte* from, std::int64_t bytes) {
  copy<true>(into, from, bytes);
}

}  // namespace torch_accelerated::detail
