// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <optional>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Brings a batch to a device while that device still computes on the one before: on CUDA by a
/// stream of its own, on any other device without overlap. Called from one thread.
class DeviceCopy {
 public:
  explicit DeviceCopy(c10::Device device);
  ~DeviceCopy();

  /// Waits for the work that reading `batch` in this thread has queued on a device itself; for
  /// worker threads, whose streams no one else knows.
  static void wait_for(const Batch& batch);

  /// `batch` ready for `begin`: pinned on the host, without which the copy would hold up its
  /// caller.
  static Batch pinned(Batch batch, c10::Device device);

  /// Queues the copy of a pinned batch; only one is under way at a time.
  void begin(const Batch& batch);

  bool under_way() const noexcept { return copy_.has_value(); }

  /// The batch of the last `begin`: what the current stream does from now on comes after its copy.
  Batch finish();

  /// Drops the batch of the last `begin`, if there is one.
  void cancel() noexcept { copy_.reset(); }

 private:
  struct SideStream;
  c10::Device device_;
  std::unique_ptr<SideStream> side_;  // on CUDA
  std::optional<Batch> copy_;
};

}  // namespace torch_accelerated
