// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_api.h"

// NCCL 2.14 or newer. It includes cuda_runtime.h, cuda_fp16.h and cuda_bf16.h, which a CUDA toolkit
// has and NVIDIA's wheels beside torch too; nothing of them is used but cudaStream_t.
#include <nccl.h>

#include <algorithm>

namespace torch_accelerated::detail {
namespace {

static_assert(static_cast<int>(NcclResult::kSuccess) == ncclSuccess);
static_assert(static_cast<int>(NcclResult::kUnhandledCudaError) == ncclUnhandledCudaError);
static_assert(static_cast<int>(NcclResult::kSystemError) == ncclSystemError);
static_assert(static_cast<int>(NcclResult::kInternalError) == ncclInternalError);
static_assert(static_cast<int>(NcclResult::kInvalidArgument) == ncclInvalidArgument);
static_assert(static_cast<int>(NcclResult::kInvalidUsage) == ncclInvalidUsage);
static_assert(static_cast<int>(NcclResult::kRemoteError) == ncclRemoteError);
static_assert(static_cast<int>(NcclResult::kInProgress) == ncclInProgress);
static_assert(static_cast<int>(NcclType::kInt8) == ncclInt8);
static_assert(static_cast<int>(NcclType::kUint8) == ncclUint8);
static_assert(static_cast<int>(NcclType::kInt32) == ncclInt32);
static_assert(static_cast<int>(NcclType::kInt64) == ncclInt64);
static_assert(static_cast<int>(NcclType::kFloat16) == ncclFloat16);
static_assert(static_cast<int>(NcclType::kFloat32) == ncclFloat32);
static_assert(static_cast<int>(NcclType::kFloat64) == ncclFloat64);
static_assert(static_cast<int>(NcclType::kBfloat16) == ncclBfloat16);

NcclResult ours(ncclResult_t result) { return static_cast<NcclResult>(result); }
ncclResult_t theirs(NcclResult result) { return static_cast<ncclResult_t>(result); }
ncclDataType_t theirs(NcclType type) { return static_cast<ncclDataType_t>(type); }
ncclComm_t comm_of(NcclComm comm) { return static_cast<ncclComm_t>(comm); }
cudaStream_t stream_of(NcclStream stream) { return static_cast<cudaStream_t>(stream); }

class LinkedNccl : public NcclApi {
 public:
  NcclResult get_unique_id(std::string& id) override {
    ncclUniqueId made;
    const auto result = ncclGetUniqueId(&made);
    id.assign(made.internal, sizeof(made.internal));
    return ours(result);
  }

  NcclResult comm_init_rank(NcclComm& comm, int size, const std::string& id, int rank) override {
    ncclUniqueId given;
    if (id.size() != sizeof(given.internal)) return NcclResult::kInvalidArgument;
    std::copy(id.begin(), id.end(), given.internal);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t made = nullptr;
    const auto result = ncclCommInitRankConfig(&made, size, given, rank, &config);
    comm = made;
    return ours(result);
  }

  NcclResult comm_get_async_error(NcclComm comm, NcclResult& state) override {
    ncclResult_t theirs_state = ncclSuccess;
    const auto result = ncclCommGetAsyncError(comm_of(comm), &theirs_state);
    state = ours(theirs_state);
    return ours(result);
  }

  NcclResult comm_finalize(NcclComm comm) override { return ours(ncclCommFinalize(comm_of(comm))); }
  NcclResult comm_destroy(NcclComm comm) override { return ours(ncclCommDestroy(comm_of(comm))); }
  NcclResult comm_abort(NcclComm comm) override { return ours(ncclCommAbort(comm_of(comm))); }

  NcclResult group_start() override { return ours(ncclGroupStart()); }
  NcclResult group_end() override { return ours(ncclGroupEnd()); }

  NcclResult all_reduce(const void* send, void* receive, std::size_t count, NcclType type,
                        NcclComm comm, NcclStream stream) override {
    return ours(ncclAllReduce(send, receive, count, theirs(type), ncclSum, comm_of(comm),
                              stream_of(stream)));
  }
  NcclResult reduce_scatter(const void* send, void* receive, std::size_t receive_count,
                            NcclType type, NcclComm comm, NcclStream stream) override {
    return ours(ncclReduceScatter(send, receive, receive_count, theirs(type), ncclSum,
                                  comm_of(comm), stream_of(stream)));
  }
  NcclResult all_gather(const void* send, void* receive, std::size_t send_count, NcclType type,
                        NcclComm comm, NcclStream stream) override {
    return ours(
        ncclAllGather(send, receive, send_count, theirs(type), comm_of(comm), stream_of(stream)));
  }
  NcclResult broadcast(const void* send, void* receive, std::size_t count, NcclType type, int root,
                       NcclComm comm, NcclStream stream) override {
    return ours(
        ncclBroadcast(send, receive, count, theirs(type), root, comm_of(comm), stream_of(stream)));
  }
  NcclResult send(const void* buffer, std::size_t count, NcclType type, int peer, NcclComm comm,
                  NcclStream stream) override {
    return ours(ncclSend(buffer, count, theirs(type), peer, comm_of(comm), stream_of(stream)));
  }
  NcclResult recv(void* buffer, std::size_t count, NcclType type, int peer, NcclComm comm,
                  NcclStream stream) override {
    return ours(ncclRecv(buffer, count, theirs(type), peer, comm_of(comm), stream_of(stream)));
  }

  std::string get_error_string(NcclResult result) override {
    return ncclGetErrorString(theirs(result));
  }
  std::string get_last_error(NcclComm comm) override {
    const char* text = ncclGetLastError(comm_of(comm));
    return text == nullptr ? "" : text;
  }
};

}  // namespace

std::shared_ptr<NcclApi> make_nccl_api() { return std::make_shared<LinkedNccl>(); }

}  // namespace torch_accelerated::detail
