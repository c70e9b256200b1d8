// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_task.h"

#include <utility>

namespace torch_accelerated {

BackgroundTask::~BackgroundTask() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundTask::start(std::function<void()> work) {
  busy_.store(true, std::memory_order_release);
  try {
    thread_ = std::thread([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        error_ = std::current_exception();
      }
      busy_.store(false, std::memory_order_release);
    });
  } catch (...) {
    busy_.store(false, std::memory_order_release);
    throw;
  }
}

void BackgroundTask::wait() {
  if (thread_.joinable()) thread_.join();
  if (const auto error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

}  // namespace torch_accelerated
