// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated::detail {

/// A queue of work on a device beside the stream that is current, an interface so that what is
/// built on it can be tested without a device. Nothing of it makes the host wait.
class SideStream {
 public:
  /// A place in the queue.
  class Point {
   public:
    virtual ~Point() = default;

    /// Lets what is queued on the current stream from now on run after what the side stream had to
    /// do up to here.
    virtual void hold_current() = 0;

    /// Whether the device is past it.
    virtual bool reached() const = 0;
  };

  virtual ~SideStream() = default;

  /// The device's own handle, a cudaStream_t on CUDA.
  virtual void* handle() const = 0;

  /// Lets what is queued here from now on run after what the current stream has to do so far.
  virtual void follow() = 0;

  /// Keeps the memory of `tensor` from other use until what is queued here now is done.
  virtual void use(const torch::Tensor& tensor) = 0;

  /// Runs `work` on the host with this stream and its device as the current ones, without recording
  /// for backward.
  virtual void run(const std::function<void()>& work) = 0;

  virtual std::shared_ptr<Point> mark() = 0;
};

/// A stream of high priority on `device`, which has streams: without it, what other ranks wait for
/// would queue behind a whole backward pass.
std::unique_ptr<SideStream> make_side_stream(c10::Device device);

}  // namespace torch_accelerated::detail
