// SPDX-License-Identifier: Apache-2.0
// Memory that is freed stays with the process where that is asked for.
#include "accelerator/host_memory.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "support/tiny.h"

namespace tests::host_memory_test {
namespace {

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// Of eight blocks of 1,024 pages that come, are written and go again, as an update's tensors do.
// They are asked of LibTorch's allocator, so nothing small comes to lie between them and holds them
// back.
void use_large_blocks() {
  c10::Allocator* allocator = c10::GetAllocator(c10::DeviceType::CPU);
  constexpr std::size_t kBytes = 4 << 20;
  std::array<c10::DataPtr, 8> blocks;
  for (c10::DataPtr& block : blocks) {
    block = allocator->allocate(kBytes);
    std::memset(block.get(), 1, kBytes);
  }
}

// Settings of whoever starts the tests are set aside: they'd win.
void clear_environment() {
  for (const char* name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}) {
    unsetenv(name);
  }
}

TEST(HostMemory, IsKeptForTheNextTensors) {
  clear_environment();
  ASSERT_TRUE(ta::keep_freed_memory());
  for (int i = 0; i < 10; ++i) use_large_blocks();  // the heap grows to what they need
  const long before = page_faults();
  for (int i = 0; i < 10; ++i) use_large_blocks();
  EXPECT_LT(page_faults() - before, 1'000);  // glibc by itself faults 81,600 pages in again
  ta::give_back_freed_memory();
}

TEST(HostMemory, IsSetUpByTheUserWhereTheUserDoes) {
  ASSERT_EQ(setenv("MALLOC_TRIM_THRESHOLD_", "131072", 1), 0);
  EXPECT_FALSE(ta::keep_freed_memory());
  unsetenv("MALLOC_TRIM_THRESHOLD_");
}

TEST(HostMemory, StandsInTheDescription) {
  clear_environment();
  const ta::Accelerator kept({.device = "cpu"});
  const ta::Accelerator given_back({.device = "cpu", .keep_host_memory = false});
  EXPECT_THAT(kept.memory_description(), testing::HasSubstr("freed memory kept"));
  EXPECT_THAT(given_back.memory_description(), testing::Not(testing::HasSubstr("kept")));
}

}  // namespace
}  // namespace tests::host_memory_test
