// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <thread>

namespace torch_accelerated {

/// One piece of work at a time, done beside the caller's thread.
class BackgroundTask {
 public:
  BackgroundTask() = default;
  ~BackgroundTask();  ///< waits for the work; what it threw is lost
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;

  /// Starts `work`; the one before must have been waited for.
  void start(std::function<void()> work);

  /// Waits for the work, if there is any, and throws what it threw.
  void wait();

 private:
  std::thread thread_;
  std::exception_ptr error_;
};

}  // namespace torch_accelerated
