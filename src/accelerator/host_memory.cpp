// SPDX-License-Identifier: Apache-2.0
#include "accelerator/host_memory.h"

#include <cstdlib>
#include <cstring>

#include "accelerator/host_blocks.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace torch_accelerated {

#ifdef __GLIBC__

namespace {

// The user's own settings win; see mallopt(3).
bool is_set_by_the_environment() {
  const char* tunables = std::getenv("GLIBC_TUNABLES");
  return std::getenv("MALLOC_TRIM_THRESHOLD_") != nullptr ||
         std::getenv("MALLOC_MMAP_THRESHOLD_") != nullptr ||
         (tunables != nullptr && std::strstr(tunables, "glibc.malloc") != nullptr);
}

}  // namespace

bool keep_freed_memory() {
  if (is_set_by_the_environment()) return false;
  constexpr int kLargest = 32 << 20;   // that glibc takes for M_MMAP_THRESHOLD
  constexpr int kNever = 0x7fff'ffff;  // bytes at the heap's end before it is trimmed
  const bool keeps_large =
      mallopt(M_MMAP_THRESHOLD, kLargest) == 1 && mallopt(M_TRIM_THRESHOLD, kNever) == 1;
  return keep_blocks_of_this_thread() || keeps_large;
}

void give_back_freed_memory() {
  release_blocks_of_this_thread();
  malloc_trim(0);
}

#else

bool keep_freed_memory() { return keep_blocks_of_this_thread(); }
void give_back_freed_memory() { release_blocks_of_this_thread(); }

#endif

}  // namespace torch_accelerated
