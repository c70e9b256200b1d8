// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "distributed/call.h"
#include "distributed/slices.h"

namespace torch_accelerated::detail {

/// What one rank writes in the shared window and all others read.
///
/// Ranks go through phases, which count from 1. A rank comes to phase p by writing what it has to
/// say and then, with release, `phase` in heads[p % 2]; it leaves p when it has seen p there from
/// all ranks, with acquire. Nobody comes to p + 2 before all have left p, so two of each are
/// enough.
struct WindowArea {
  static constexpr std::int64_t kInHead = 104;       // bytes that travel with the flag itself
  static constexpr std::int64_t kInSlot = 64 << 10;  // bytes that travel in a slot

  struct alignas(128) Head {
    std::atomic<std::uint64_t> phase;
    std::uint64_t agreement;  // Call::agreement; 0 within an operation
    std::uint64_t placement;  // where large summands are
    std::byte data[kInHead];
  };
  struct alignas(kCacheLine) Slot {
    std::byte data[kInSlot];
  };

  // Read where something went wrong.
  struct alignas(kCacheLine) Story {
    std::atomic<std::int64_t> begun;       // operations
    std::atomic<std::int64_t> begun_time;  // of the last one, in ms of the host's steady clock
    char name[16];                         // of the last one
    std::atomic<std::int32_t> failed;      // 1 when exit_code and text are there
    std::int32_t exit_code;
    char text[900];
    std::atomic<std::uint32_t> teller;  // in rank 0's area: 1 + the rank that tells why a job ends
  };

  Head heads[2];
  alignas(kCacheLine) Call calls[2];
  Story story;
  Slot slots[2];
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "it is shared between processes");

}  // namespace torch_accelerated::detail
