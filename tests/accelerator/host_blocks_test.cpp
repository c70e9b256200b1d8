// SPDX-License-Identifier: Apache-2.0
// Freed memory of a thread's tensors goes to its next ones of the same size, and to no two at once.
#include "accelerator/host_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "support/tiny.h"

namespace tests::host_blocks_test {
namespace {

constexpr std::int64_t kLargest = std::int64_t{512} << 10;
constexpr std::size_t kMost = std::size_t{64} << 20;

torch::Tensor bytes(std::int64_t count) { return torch::empty({count}, torch::kUInt8); }

/// While it lives, the process gets at most `bytes` of address space on top of what it has.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(rlim_t bytes) {
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    getrlimit(RLIMIT_AS, &before_);
    auto limit = before_;
    limit.rlim_cur = pages * static_cast<rlim_t>(getpagesize()) + bytes;
    if (pages == 0 || setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(2);
  }
  ~AddressSpaceLimit() { setrlimit(RLIMIT_AS, &before_); }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;

 private:
  rlimit before_{};
};

class HostBlocks : public testing::Test {
 protected:
  HostBlocks() {
    is_on_ = ta::keep_blocks_of_this_thread();
    ta::release_blocks_of_this_thread();
  }
  ~HostBlocks() override { ta::release_blocks_of_this_thread(); }

  bool is_on_;
};

TEST_F(HostBlocks, OfASizeComeAgainTheNewestFirst) {
  ASSERT_TRUE(is_on_);
  auto older = bytes(1000);
  auto newer = bytes(1000);
  const auto* newest = newer.data_ptr();
  older.reset();
  newer.reset();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), 2048U);
  EXPECT_EQ(bytes(1001).data_ptr(), newest);  // as many units of 64 bytes
  EXPECT_NE(bytes(1025).data_ptr(), newest);
}

TEST_F(HostBlocks, AreAlignedAndNobodysElse) {
  std::mt19937 random(3);
  std::vector<torch::Tensor> alive;
  for (int i = 0; i < 3000; ++i) {
    if (alive.size() > 40) {
      const auto place = random() % alive.size();
      const auto& tensor = alive[place];
      ASSERT_TRUE(tensor.eq(tensor[0]).all().item<bool>());
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(place));
    }
    alive.push_back(bytes(1 + static_cast<std::int64_t>(random() % 5000)).fill_(i % 251));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(alive.back().data_ptr()) % 64, 0U);
  }
}

TEST_F(HostBlocks, AreKeptByTheThreadThatMadeThem) {
  torch::Tensor of_another;
  std::thread([&] {
    ta::keep_blocks_of_this_thread();
    of_another = bytes(1000).fill_(7);
    bytes(1000).reset();
    EXPECT_EQ(ta::bytes_kept_by_this_thread(), 1024U);
  }).join();
  EXPECT_TRUE(of_another.eq(7).all().item<bool>());  // it outlives its thread
  ta::release_blocks_of_this_thread();
  of_another.reset();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), 0U);
  auto mine = bytes(1000);
  std::thread([mine = std::move(mine)]() mutable {
    mine.reset();
    EXPECT_EQ(ta::bytes_kept_by_this_thread(), 0U);
  }).join();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), 0U);
}

TEST_F(HostBlocks, MayBeFreedWhenTheirThreadsObjectsAreGone) {
  struct Late {
    torch::Tensor tensor;
  };
  std::thread([] {
    static thread_local Late late;  // made before what keeps its block, so that it goes after it
    late.tensor.reset();
    ta::keep_blocks_of_this_thread();
    late.tensor = bytes(1000);
  }).join();
}

TEST_F(HostBlocks, AreNotKeptAboveALimitEachAndInAll) {
  bytes(kLargest + 1).reset();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), 0U);
  bytes(kLargest).reset();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), static_cast<std::size_t>(kLargest));
  std::size_t most = 0;
  for (std::int64_t i = 1; i < 300; ++i) {  // of sizes that don't come again
    bytes(kLargest - 64 * i).reset();
    most = std::max(most, ta::bytes_kept_by_this_thread());
  }
  EXPECT_LE(most, kMost);
  EXPECT_GT(most, kMost - (std::size_t{1} << 20));
  ta::release_blocks_of_this_thread();
  EXPECT_EQ(ta::bytes_kept_by_this_thread(), 0U);
}

TEST_F(HostBlocks, TellOfTooMuchAsLibTorchDoes) {
  for (const auto count : {std::int64_t{1} << 60, std::numeric_limits<std::int64_t>::max() - 7}) {
    EXPECT_THROW(bytes(count), c10::Error) << count;
  }
  EXPECT_EQ(bytes(0).numel(), 0);
}

// In a process of its own, whose heap nobody has used before.
TEST_F(HostBlocks, AreGivenBackBeforeMemoryRunsOut) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto runs_out_late = [] {
    std::vector<torch::Tensor> many;
    for (int i = 0; i < 100; ++i) many.push_back(bytes(kLargest));
    many.clear();
    const auto kept = ta::bytes_kept_by_this_thread();
    const AddressSpaceLimit limit(8 << 20);
    bytes(40 << 20).reset();
    bool told_of_too_much = false;
    try {
      bytes(200 << 20).reset();
    } catch (const c10::Error&) {
      told_of_too_much = true;
    }
    return kept == 100 * static_cast<std::size_t>(kLargest) && told_of_too_much &&
           ta::bytes_kept_by_this_thread() == 0;
  };
  EXPECT_EXIT(std::_Exit(runs_out_late() ? 0 : 1), testing::ExitedWithCode(0), "");
}

TEST_F(HostBlocks, LeaveAnotherAllocatorAlone) {
  class Other final : public c10::Allocator {
   public:
    c10::DataPtr allocate(std::size_t count) override {
      return c10::GetDefaultCPUAllocator()->allocate(count);
    }
    void copy_data(void* to, const void* from, std::size_t count) const override {
      default_copy_data(to, from, count);
    }
  };
  static Other other;
  auto* const before = c10::GetCPUAllocator();
  c10::SetCPUAllocator(&other);
  EXPECT_FALSE(ta::keep_blocks_of_this_thread());
  EXPECT_EQ(c10::GetCPUAllocator(), &other);
  c10::SetCPUAllocator(before);
}

}  // namespace
}  // namespace tests::host_blocks_test
