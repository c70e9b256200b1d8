// SPDX-License-Identifier: Apache-2.0
#include "data/device_copy.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include <utility>

namespace torch_accelerated {

// Everything goes by c10's interfaces, which a CPU build has too.
struct DeviceCopy::SideStream {
  explicit SideStream(c10::Device device)
      : backend(device.type()),
        stream(backend.getStreamFromGlobalPool(device)),
        copied(device.type()) {}

  c10::impl::VirtualGuardImpl backend;
  c10::Stream stream;
  c10::Event copied;
};

DeviceCopy::DeviceCopy(c10::Device device)
    : device_(device), side_(device.is_cuda() ? std::make_unique<SideStream>(device) : nullptr) {}

DeviceCopy::~DeviceCopy() = default;

void DeviceCopy::wait_for(const Batch& batch) {
  for (const auto& [name, value] : batch) {
    if (!value.defined() || !value.is_cuda()) continue;
    c10::impl::VirtualGuardImpl(value.device().type()).getStream(value.device()).synchronize();
  }
}

Batch DeviceCopy::pinned(Batch batch, c10::Device device) {
  if (!device.is_cuda()) return batch;
  const c10::DeviceGuard guard(device);
  return batch.pin_memory();
}

void DeviceCopy::begin(const Batch& batch) {
  if (!side_) {
    copy_ = batch.to(device_);
    return;
  }
  // The host's allocator keeps pinned memory until the stream of its copy is done with it.
  const c10::StreamGuard guard(side_->stream);
  copy_ = batch.to(device_, /*non_blocking=*/true);
  side_->copied.record(side_->stream);
}

Batch DeviceCopy::finish() {
  Batch batch = std::move(*copy_);
  copy_.reset();
  if (!side_) return batch;
  const c10::Stream current = side_->backend.getStream(device_);
  side_->copied.block(current);
  // The memory belongs to the side stream: without this it would be given to the next copy as soon
  // as the batch is dropped on the host, while the current stream may still read it.
  for (const auto& [name, value] : batch) {
    if (value.defined()) value.record_stream(current);
  }
  return batch;
}

}  // namespace torch_accelerated
