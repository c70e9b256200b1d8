// SPDX-License-Identifier: Apache-2.0
#include "distributed/side_stream.h"

#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

namespace torch_accelerated::detail {
namespace {

// Everything goes by c10's interfaces, which a CPU build has too.
using Backend = c10::impl::VirtualGuardImpl;

class DevicePoint : public SideStream::Point {
 public:
  explicit DevicePoint(const c10::Stream& stream)
      : device_(stream.device()), backend_(device_.type()), event_(device_.type()) {
    event_.record(stream);
  }

  void hold_current() override { event_.block(backend_.getStream(device_)); }
  bool reached() const override { return event_.query(); }

 private:
  c10::Device device_;
  Backend backend_;
  c10::Event event_;
};

class DeviceSideStream : public SideStream {
 public:
  explicit DeviceSideStream(c10::Device device)
      : device_(device),
        backend_(device.type()),
        stream_(backend_.getStreamFromGlobalPool(device, /*isHighPriority=*/true)),
        queued_(device.type()) {}

  void* handle() const override { return stream_.native_handle(); }

  void follow() override {
    queued_.record(backend_.getStream(device_));
    queued_.block(stream_);
  }

  void use(const torch::Tensor& tensor) override { tensor.record_stream(stream_); }

  void run(const std::function<void()>& work) override {
    const c10::StreamGuard guard(stream_);
    const torch::NoGradGuard no_grad;
    work();
  }

  std::shared_ptr<Point> mark() override { return std::make_shared<DevicePoint>(stream_); }

 private:
  c10::Device device_;
  Backend backend_;
  c10::Stream stream_;
  c10::Event queued_;  // recorded anew each time: a wait is for what had been recorded by then
};

}  // namespace

std::unique_ptr<SideStream> make_side_stream(c10::Device device) {
  return std::make_unique<DeviceSideStream>(device);
}

}  // namespace torch_accelerated::detail
