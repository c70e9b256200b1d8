// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_task.h"

#include <utility>

namespace torch_accelerated {

BackgroundTask::~BackgroundTask() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundTask::start(std::function<void()> work) {
  thread_ = std::thread([this, work = std::move(work)] {
    try {
      work();
    } catch (...) {
      error_ = std::current_exception();
    }
  });
}

void BackgroundTask::wait() {
  if (thread_.joinable()) thread_.join();
  if (const auto error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

}  // namespace torch_accelerated
