// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "distributed/call.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

inline void copy_bytes(std::byte* into, const std::byte* from, std::int64_t count) {
  if (count > 0) std::memcpy(into, from, static_cast<std::size_t>(count));
}

/// Numbers that are replaced by their sum over ranks.
struct Summand {
  std::byte* data;
  std::int64_t count;
  std::int64_t bytes;
  c10::ScalarType dtype;
};

/// How a communicator moves bytes between its ranks: by MPI's messages or by memory that they
/// share.
///
/// All operations are collective, from one thread at a time, and throw CommunicationError. An
/// operation of the communicator is `meet` or `all_reduce` and then any number of the others, of
/// which each rank knows all lengths.
class Channel {
 public:
  virtual ~Channel() = default;
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;
  virtual std::string name() const = 0;

  /// Waits for all ranks, and compares what they call.
  /// @param timeout  how long each wait of this operation may take.
  /// @return one call of each rank, until the next operation.
  virtual std::span<const Call> meet(const Call& mine, std::chrono::milliseconds timeout) = 0;

  /// Meets, and sums.
  virtual void all_reduce(const Call& mine, std::chrono::milliseconds timeout,
                          std::span<const Summand> summands, SumOrder order) = 0;

  /// Puts rank r's `mine` into all[r], for all ranks r.
  virtual void all_gather(Bytes mine, std::span<const MutableBytes> all) = 0;

  /// Puts rank r's sent[this rank] into received[r], for all ranks r.
  /// @param longest  of all that any rank sends, in bytes.
  virtual void all_to_all(std::span<const Bytes> sent, std::span<const MutableBytes> received,
                          std::int64_t longest) = 0;

  /// Puts rank root's bytes into those of all others.
  virtual void broadcast(MutableBytes bytes, int root) = 0;

  /// Zeros from which `all_reduce` is fastest, until `close`; null where there is no such memory.
  virtual std::byte* make_buffer(std::int64_t bytes) = 0;

  /// A channel of the same kind over the same ranks.
  virtual std::unique_ptr<Channel> duplicate() = 0;

  virtual void close() = 0;

  /// Tells the waiting ranks that this one goes no further. Not collective, never throws.
  virtual void tell_failure(const std::string& text, ExitCode exit_code) noexcept = 0;
};

}  // namespace torch_accelerated::detail
