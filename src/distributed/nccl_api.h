// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace torch_accelerated::detail {

/// What a call of NCCL returned, with nccl.h's numbers.
enum class NcclResult : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

/// What a buffer holds, with nccl.h's numbers.
enum class NcclType : int {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kInt64 = 4,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

using NcclComm = void*;    ///< an ncclComm_t
using NcclStream = void*;  ///< a cudaStream_t

/// The entry points of NCCL that are used, each under its name without "nccl", so that what is
/// built on them needs neither nccl.h nor a device to compile and to be tested. The device that is
/// current is a communicator's device; sums are the only reductions.
class NcclApi {
 public:
  virtual ~NcclApi() = default;

  virtual NcclResult get_unique_id(std::string& id) = 0;
  /// Makes a communicator whose calls don't block: they may return kInProgress, and
  /// `comm_get_async_error` tells when they have been carried out.
  virtual NcclResult comm_init_rank(NcclComm& comm, int size, const std::string& id, int rank) = 0;
  virtual NcclResult comm_get_async_error(NcclComm comm, NcclResult& state) = 0;
  virtual NcclResult comm_finalize(NcclComm comm) = 0;
  virtual NcclResult comm_destroy(NcclComm comm) = 0;
  virtual NcclResult comm_abort(NcclComm comm) = 0;

  virtual NcclResult group_start() = 0;
  virtual NcclResult group_end() = 0;

  virtual NcclResult all_reduce(const void* send, void* receive, std::size_t count, NcclType type,
                                NcclComm comm, NcclStream stream) = 0;
  virtual NcclResult reduce_scatter(const void* send, void* receive, std::size_t receive_count,
                                    NcclType type, NcclComm comm, NcclStream stream) = 0;
  virtual NcclResult all_gather(const void* send, void* receive, std::size_t send_count,
                                NcclType type, NcclComm comm, NcclStream stream) = 0;
  virtual NcclResult broadcast(const void* send, void* receive, std::size_t count, NcclType type,
                               int root, NcclComm comm, NcclStream stream) = 0;
  virtual NcclResult send(const void* buffer, std::size_t count, NcclType type, int peer,
                          NcclComm comm, NcclStream stream) = 0;
  virtual NcclResult recv(void* buffer, std::size_t count, NcclType type, int peer, NcclComm comm,
                          NcclStream stream) = 0;

  virtual std::string get_error_string(NcclResult result) = 0;
  /// What NCCL noted last of whatever went wrong, or nothing.
  virtual std::string get_last_error(NcclComm comm) = 0;
};

/// The NCCL that the library was linked with; null where it was built without.
std::shared_ptr<NcclApi> make_nccl_api();

}  // namespace torch_accelerated::detail
