// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "distributed/call.h"

namespace torch_accelerated::detail {

/// Words for a wait that was given up: who has not come, and who waits.
class LateRanks {
 public:
  LateRanks(const Call& call, std::chrono::milliseconds timeout)
      : call_(to_text(call)), timeout_(timeout) {}

  /// @param last_seen  what is known of it; may be empty.
  void add_late(int rank, const std::string& last_seen);
  void add_waiting(int rank);

  /// "all_reduce number 41 (float [3], 12 bytes): rank 2 did not come within 2000 ms, last seen …;
  /// ranks 0, 1 wait".
  std::string text() const;

 private:
  std::string call_;
  std::chrono::milliseconds timeout_;
  int late_ = 0;
  int waiting_ = 0;
  std::string late_text_;
  std::string waiting_text_;
};

}  // namespace torch_accelerated::detail
