// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "distributed/host_claim.h"

namespace torch_accelerated::detail {

/// Ends this process, and with it the job, when MPI's initialisation takes longer than `time`: it
/// waits for all ranks of the job without an end, and nobody but a thread beside it can act.
///
/// One rank of a host says why in one line.
class StartLimit {
 public:
  explicit StartLimit(std::chrono::milliseconds time);

  /// MPI is there.
  ~StartLimit();
  StartLimit(const StartLimit&) = delete;
  StartLimit& operator=(const StartLimit&) = delete;

 private:
  void watch(std::chrono::milliseconds time);

  HostClaim claim_;  // of telling
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_started_ = false;
  std::thread thread_;  // last: it uses all of the above
};

/// Why a start was given up.
std::string late_start_text(std::chrono::milliseconds time);

}  // namespace torch_accelerated::detail
