// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "distributed/nccl_api.h"

namespace torch_accelerated::detail {

/// On whose behalf NCCL is called, for messages, and how long the other ranks are waited for.
struct NcclOperation {
  const char* name = "";
  std::int64_t number = 0;  ///< of the communicator's operations
  std::chrono::milliseconds timeout{};
};

/// This rank's part in an NCCL communicator.
///
/// Whatever goes wrong, also in the background, ends in one ncclCommAbort, which stops the work
/// that is under way on the device, and a CommunicationError; every later call throws. The
/// destructor calls nothing of NCCL: a handle that was neither left nor aborted is dropped.
class NcclSession {
 public:
  /// One call of NCCL.
  using Call = std::function<NcclResult(NcclApi&, NcclComm)>;

  explicit NcclSession(std::shared_ptr<NcclApi> api) : api_(std::move(api)) {}
  NcclSession(const NcclSession&) = delete;
  NcclSession& operator=(const NcclSession&) = delete;

  /// Becomes one of `size` ranks; returns when all have come.
  void join(const NcclOperation& operation, int size, const std::string& id, int rank);

  /// Makes the calls as one group; returns when all their work is on its stream.
  void group(const NcclOperation& operation, const std::vector<Call>& calls);

  /// Looks once, without waiting, whether something went wrong.
  void check(const NcclOperation& operation);

  /// Looks until `reached` is true.
  void wait_until(const NcclOperation& operation, const std::function<bool()>& reached);

  /// Gives up the communicator when all ranks do.
  void leave(const NcclOperation& operation);

  /// Stops what is under way; the first call counts, after `leave` none.
  void abort() noexcept;

 private:
  NcclResult state(const NcclOperation& operation);
  void settle(const NcclOperation& operation, NcclResult result);
  void poll(const NcclOperation& operation, const std::function<bool(NcclResult)>& done);
  [[noreturn]] void fail(const NcclOperation& operation, NcclResult result);
  [[noreturn]] void fail(const NcclOperation& operation, const std::string& text);

  std::shared_ptr<NcclApi> api_;
  NcclComm comm_ = nullptr;
};

}  // namespace torch_accelerated::detail
