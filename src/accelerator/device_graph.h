// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/TensorBody.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

namespace torch_accelerated {

/// What a device has been asked to do, kept to be done again by one call.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;

  /// Has the device do it once more, from the same memory into the same memory.
  virtual void replay() = 0;

  /// The memory from before the recording, whole storages, to which a replay may write.
  /// Nothing where `is_done_while_recorded` is false.
  virtual std::vector<c10::Storage> outside() const { return {}; }

  /// Keeps what a replay may change, random generators included; likewise.
  /// @return puts it back.
  virtual std::function<void()> kept() const {
    return [] {};
  }
};

/// What a work did can't be recorded.
class CannotRecord : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A device that can record what it is asked to do. An interface, so that what is built on it can
/// be tested without one.
class GraphDevice {
 public:
  virtual ~GraphDevice() = default;

  /// Runs `work` on the host with a stream of its own as the current one: after what the stream
  /// before has to do, and that one goes on after it.
  virtual void run(const std::function<void()>& work) = 0;

  /// Runs `work` on the host, within `run`; what it asks of the device is recorded.
  /// @throws std::exception  what `work` threw, also where it waited for the device.
  /// @throws CannotRecord    other reasons why it can't be recorded.
  virtual std::unique_ptr<DeviceGraph> record(const std::function<void()>& work) = 0;

  /// Whether what is recorded is done meanwhile. Then `work` may also do what isn't recorded.
  virtual bool is_done_while_recorded() const noexcept { return false; }
};

/// Makes the GraphDevice of a device.
using GraphDeviceMaker = std::unique_ptr<GraphDevice> (*)(c10::Device device);

/// The maker for devices of `type`; null where the library has none.
GraphDeviceMaker& graph_device_maker(c10::DeviceType type);

/// For CUDA; null where the library was built without CUDA or its headers.
GraphDeviceMaker cuda_graph_device_maker();

/// For the CPU, whose graphs are the kernels that a step called, without all that leads to them.
GraphDeviceMaker host_graph_device_maker();

}  // namespace torch_accelerated
