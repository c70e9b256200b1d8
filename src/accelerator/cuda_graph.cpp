// SPDX-License-Identifier: Apache-2.0
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>

#include "accelerator/device_graph.h"

namespace torch_accelerated {
namespace {

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(c10::DeviceIndex device, const std::function<void()>& work) {
    const auto pool = at::cuda::graph_pool_handle();
    // Threads that read data go on meanwhile with what a capture doesn't allow in its own thread.
    graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    try {
      graph_.capture_end();
    } catch (const std::exception&) {
      if (!error) error = std::current_exception();  // else it only says that there was one before
      leave_pool(device, pool);
    }
    if (error) std::rethrow_exception(error);
  }

  void replay() override { graph_.replay(); }

 private:
  // A capture that fails leaves the allocator as if it went on.
  static void leave_pool(c10::DeviceIndex device, c10::MempoolId_t pool) noexcept {
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool);
      c10::cuda::CUDACachingAllocator::releasePool(device, pool);
    } catch (const std::exception&) {
      return;  // it has left it
    }
  }

  at::cuda::CUDAGraph graph_;
};

class CudaGraphDevice : public GraphDevice {
 public:
  explicit CudaGraphDevice(c10::Device device)
      : stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}

  void run(const std::function<void()>& work) override {
    const auto outer = c10::cuda::getCurrentCUDAStream(stream_.device_index());
    follow(stream_, outer);
    try {
      const c10::StreamGuard guard(
          stream_.unwrap());  // CUDAStreamGuard needs CUDA's runtime linked
      work();
    } catch (...) {
      follow(outer, stream_);
      throw;
    }
    follow(outer, stream_);
  }

  std::unique_ptr<DeviceGraph> record(const std::function<void()>& work) override {
    return std::make_unique<CudaGraph>(stream_.device_index(), work);
  }

 private:
  void follow(const c10::cuda::CUDAStream& stream, const c10::cuda::CUDAStream& other) {
    event_.record(other.unwrap());
    event_.block(stream.unwrap());
  }

  c10::cuda::CUDAStream stream_;
  c10::Event event_{c10::DeviceType::CUDA};  // recorded anew each time
};

}  // namespace

GraphDeviceMaker cuda_graph_device_maker() {
  return [](c10::Device device) -> std::unique_ptr<GraphDevice> {
    return std::make_unique<CudaGraphDevice>(device);
  };
}

}  // namespace torch_accelerated
