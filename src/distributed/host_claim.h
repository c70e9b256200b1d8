// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated::detail {

/// What one process of a job's on this host has at a time, whoever asks first, until it is gone or
/// ends. It needs neither MPI nor a file.
class HostClaim {
 public:
  HostClaim();
  ~HostClaim();
  HostClaim(const HostClaim&) = delete;
  HostClaim& operator=(const HostClaim&) = delete;

  /// Also where the system gives no answer: said twice is better than never.
  bool is_held() const noexcept { return is_held_; }

 private:
  int handle_ = -1;
  bool is_held_ = true;
};

}  // namespace torch_accelerated::detail
