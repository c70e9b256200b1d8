// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "distributed/nccl_api.h"
#include "distributed/nccl_session.h"
#include "distributed/side_stream.h"
#include "torch_accelerated/core/torch_forward.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

/// What stands between the library and a device.
struct NcclBackend {
  std::shared_ptr<NcclApi> api;
  std::function<std::unique_ptr<SideStream>(c10::Device)> make_stream;
};

/// This rank's device among those of all ranks: queues NCCL's work, with the sums that belong to
/// it, on a side stream.
///
/// What moves tensors queues its work after what the current stream has to do and returns the
/// work's end, for which the current stream doesn't wait yet; null where there was nothing to do.
/// Tensors are on the device, contiguous and without a gradient function; their memory is kept as
/// long as it is used.
/// @throws CommunicationError  see NcclSession.
class NcclDevice {
 public:
  using Tensors = std::vector<torch::Tensor>;
  using End = std::shared_ptr<SideStream::Point>;

  NcclDevice(c10::Device device, int rank, int size, NcclBackend backend);

  /// Becomes one of the ranks that have `id`.
  void join(const NcclOperation& operation, const std::string& id);

  End all_reduce(const NcclOperation& operation, const Tensors& tensors, SumOrder order);
  /// @param part, whole  with elements.
  End reduce_scatter(const NcclOperation& operation, const torch::Tensor& part,
                     const torch::Tensor& whole);
  /// @param all  (size * n, ...) for a `tensor` of (n, ...); the same n on all ranks.
  End all_gather(const NcclOperation& operation, const torch::Tensor& all,
                 const torch::Tensor& tensor);
  /// @param sent, received  one for each rank; what is received has its sizes.
  End exchange(const NcclOperation& operation, const Tensors& sent, const Tensors& received);
  End broadcast(const NcclOperation& operation, const torch::Tensor& tensor, int root);

  /// Queues nothing: the end of what the current stream has to do so far.
  End mark(const NcclOperation& operation);

  /// Waits on the host for all that was queued.
  void wait(const NcclOperation& operation);

  /// Gives up the communicator when all ranks do.
  void leave(const NcclOperation& operation);

  c10::Device device() const noexcept { return device_; }
  const NcclBackend& backend() const noexcept { return backend_; }
  const std::shared_ptr<NcclSession>& session() const noexcept { return session_; }

 private:
  using Calls = std::vector<NcclSession::Call>;

  End queue(const NcclOperation& operation, const Tensors& touched,
            const std::function<void()>& work);
  void group(const NcclOperation& operation, const Calls& calls);
  void sum(const NcclOperation& operation, const Tensors& tensors);
  void sum_pairwise(const NcclOperation& operation, const Tensors& tensors);

  c10::Device device_;
  int rank_;
  int size_;
  NcclBackend backend_;
  std::unique_ptr<SideStream> stream_;
  std::shared_ptr<NcclSession> session_;  // pending operations look at it too
  End last_;                              // of what was queued last
};

}  // namespace torch_accelerated::detail
