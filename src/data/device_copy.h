// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Brings a batch to a device while that device still computes on the one before: on CUDA by a
/// stream of its own, on any other device without overlap. Called from one thread.
class DeviceCopy {
 public:
  explicit DeviceCopy(c10::Device device);
  ~DeviceCopy();

  /// Makes a batch that was just read ready for `begin`; called by the thread that read it.
  ///
  /// Memory on the host becomes pinned, without which a copy would hold up its caller; work that
  /// the reading itself queued on a device is waited for, as no one else knows its stream.
  static Batch prepare(Batch batch, c10::Device device);

  /// Queues the copy of a prepared batch; only one is under way at a time.
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
