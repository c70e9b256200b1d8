// SPDX-License-Identifier: Apache-2.0
// Memory that is freed stays with the process where that is asked for.
#include "accelerator/host_memory.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cstdlib>

#include "support/tiny.h"

namespace tests::host_memory_test {
namespace {

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// Of tensors of 16 MiB that come and go.
long faults_of_large_tensors() {
  const auto make_two = [] { torch::zeros({2, 2 << 20}) + torch::ones({2, 2 << 20}); };
  make_two();
  const long before = page_faults();
  for (int i = 0; i < 10; ++i) make_two();
  return page_faults() - before;
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
  // Three tensors of 4,096 pages, ten times, would be 122,880; the heap may grow by one of them.
  EXPECT_LT(faults_of_large_tensors(), 10'000);
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
