// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>

#include "accelerator/device_graph.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {
namespace {

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(c10::DeviceIndex device, const std::function<void()>& work) {
    // What plain steps have left in the cache is of no use to a graph, which has memory of its own.
    c10::cuda::CUDACachingAllocator::emptyCache();
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
  // A capture that fails leaves the allocators, and the random generator, as if it went on.
  static void leave_pool(c10::DeviceIndex device, c10::MempoolId_t pool) noexcept {
    const auto each = {std::function<void()>([&] {
                         c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool);
                         c10::cuda::CUDACachingAllocator::releasePool(device, pool);
                       }),
                       std::function<void()>([&] {
                         auto* allocator = at::getHostAllocator(at::kCUDA);
                         allocator->end_allocate_to_pool(pool);
                         allocator->release_pool(pool);
                       }),
                       std::function<void()>([] {
                         at::cuda::CUDAGraph another;  // whose end is the generator's too
                         another.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
                         const auto something = at::zeros({1}, at::kCUDA);
                         another.capture_end();
                       })};
    for (const auto& leave : each) {
      try {
        leave();
      } catch (const std::exception& error) {
        log(LogLevel::kDebug, error.what());  // it has left it, or can't
      }
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
      const auto error = std::current_exception();
      try {
        follow(outer, stream_);
      } catch (const std::exception&) {
        std::rethrow_exception(error);  // which is why
      }
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
