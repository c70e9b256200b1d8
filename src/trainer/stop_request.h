// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>

namespace torch_accelerated {

/// A wish to stop, made in any thread and acted on in the one that trains.
class StopRequest {
 public:
  void make(std::string reason) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (made_.load(std::memory_order_relaxed)) return;
    reason_ = reason.empty() ? "no reason was given" : std::move(reason);
    made_.store(true, std::memory_order_release);
  }

  bool made() const noexcept { return made_.load(std::memory_order_acquire); }

  std::string reason() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reason_;
  }

  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    reason_.clear();
    made_.store(false, std::memory_order_release);
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> made_{false};
  std::string reason_;
};

}  // namespace torch_accelerated
