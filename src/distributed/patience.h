// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <time.h>

#include <chrono>

namespace torch_accelerated::detail {

/// How a rank waits for what another one does: it looks again at once for some microseconds, then
/// lets other threads run between two looks, and after a tenth of a second it sleeps between them.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;

  /// @param looks  how often it looks at once: few where there are more ranks than cores.
  explicit Patience(int looks) : looks_(looks) {}

  /// Between two looks; true about once a millisecond, when it is time to look for failures.
  bool pause() {
    if (looks_ > 0) {
      --looks_;
      relax();
      return false;
    }
    return give_way();
  }

  /// Since the first time that `pause` gave way.
  std::chrono::milliseconds waited() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now_ - start_);
  }

 private:
  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
  }

  bool give_way() {
    if (now_ - start_ > std::chrono::milliseconds(100)) {
      const timespec nap{0, 100'000};
      nanosleep(&nap, nullptr);
    } else {
      sched_yield();
    }
    now_ = Clock::now();
    if (start_ == Clock::time_point()) {
      start_ = now_;
    } else if (now_ >= next_check_) {
      next_check_ = now_ + std::chrono::milliseconds(1);
      return true;
    }
    if (next_check_ < start_) next_check_ = start_ + std::chrono::milliseconds(1);
    return false;
  }

  int looks_;
  Clock::time_point now_;
  Clock::time_point start_;
  Clock::time_point next_check_;
};

}  // namespace torch_accelerated::detail
