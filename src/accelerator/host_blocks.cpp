// SPDX-License-Identifier: Apache-2.0
#include "accelerator/host_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/alignment.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <array>
#include <limits>
#include <mutex>
#include <utility>

namespace torch_accelerated {
namespace {

constexpr std::size_t kLargestBlock = std::size_t{1} << 19;  // bytes of a block that is kept
constexpr std::size_t kMostKept = std::size_t{64} << 20;     // bytes that a thread keeps

class KeptBlocks;

/// Stands before a tensor's memory.
struct alignas(c10::gAlignment) Block {
  std::size_t units;   // of c10::gAlignment bytes, without this header; of a block that may be kept
  KeptBlocks* keeper;  // of the thread that made it; null where it isn't kept
  Block* next;         // while it is kept
};

constexpr std::size_t units_of(std::size_t bytes) {
  return (bytes + c10::gAlignment - 1) / c10::gAlignment;
}

/// What a thread keeps. Blocks that other threads free aren't, so that no lock is needed.
class KeptBlocks {
 public:
  KeptBlocks() = default;
  ~KeptBlocks() { release(); }
  KeptBlocks(const KeptBlocks&) = delete;
  KeptBlocks& operator=(const KeptBlocks&) = delete;

  Block* take(std::size_t units) noexcept {
    auto* block = newest_[units];
    if (block == nullptr) return nullptr;
    newest_[units] = block->next;
    bytes_ -= units * c10::gAlignment;
    return block;
  }

  // Sizes that don't come any more would fill it for good, so that all goes when it is full.
  void keep(Block* block) noexcept {
    bytes_ += block->units * c10::gAlignment;
    block->next = std::exchange(newest_[block->units], block);
    if (bytes_ > kMostKept) release();
  }

  void release() noexcept {
    for (auto& newest : newest_) {
      while (newest != nullptr) c10::free_cpu(std::exchange(newest, newest->next));
    }
    bytes_ = 0;
  }

  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::array<Block*, units_of(kLargestBlock) + 1> newest_{};  // by units
  std::size_t bytes_ = 0;
};

// A plain pointer, as tensors may be freed when the thread's other objects are gone.
thread_local constinit KeptBlocks* kept_by_this_thread = nullptr;

struct EndOfThread {
  ~EndOfThread() { delete std::exchange(kept_by_this_thread, nullptr); }
};

Block* make_block(std::size_t bytes, KeptBlocks* keeper) {
  // What is too much stays too much with the header, so that LibTorch's error tells of it.
  const auto whole = std::min(bytes, std::numeric_limits<std::size_t>::max() - sizeof(Block));
  auto* block = static_cast<Block*>(c10::alloc_cpu(whole + sizeof(Block)));
  block->units = units_of(whole);
  block->keeper = keeper;
  return block;
}

Block* block_for(std::size_t bytes) {
  auto* const keeper = bytes <= kLargestBlock ? kept_by_this_thread : nullptr;
  if (keeper == nullptr) return make_block(bytes, nullptr);
  auto* const kept = keeper->take(units_of(bytes));
  return kept != nullptr ? kept : make_block(units_of(bytes) * c10::gAlignment, keeper);
}

// Where there is no memory, what the thread keeps may be enough.
Block* block_after_release(std::size_t bytes) {
  release_blocks_of_this_thread();
  try {
    return block_for(bytes);
  } catch (const c10::Error&) {
    c10::profiledCPUMemoryReporter().OutOfMemory(bytes);
    throw;
  }
}

class HostBlocks final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &give_back, c10::kCPU};
    void* data = nullptr;
    try {
      data = block_for(bytes) + 1;
    } catch (const c10::Error&) {
      data = block_after_release(bytes) + 1;
    }
    c10::profiledCPUMemoryReporter().New(data, bytes);
    return {data, data, &give_back, c10::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void give_back(void* data) {
    if (data == nullptr) return;
    c10::profiledCPUMemoryReporter().Delete(data);
    auto* const block = static_cast<Block*>(data) - 1;
    if (block->keeper != nullptr && block->keeper == kept_by_this_thread) {
      block->keeper->keep(block);
    } else {
      c10::free_cpu(block);
    }
  }
};

// Whether LibTorch has this allocator, or can be given it.
bool is_allocator_of_libtorch() {
  static std::mutex mutex;
  static auto* const allocator = new HostBlocks;  // tensors may outlive all objects
  const std::lock_guard lock(mutex);
  if (c10::GetCPUAllocator() == allocator) return true;
  if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator()) return false;
  c10::SetCPUAllocator(allocator);
  return true;
}

}  // namespace

bool keep_blocks_of_this_thread() {
  if (!is_allocator_of_libtorch()) return false;
  static thread_local EndOfThread end_of_thread;
  static_cast<void>(end_of_thread);
  if (kept_by_this_thread == nullptr) kept_by_this_thread = new KeptBlocks;
  return true;
}

std::size_t bytes_kept_by_this_thread() noexcept {
  return kept_by_this_thread == nullptr ? 0 : kept_by_this_thread->bytes();
}

void release_blocks_of_this_thread() noexcept {
  if (kept_by_this_thread != nullptr) kept_by_this_thread->release();
}

}  // namespace torch_accelerated
