// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "distributed/mpi_api.h"
#include "distributed/notices.h"
#include "distributed/shared_window.h"

namespace torch_accelerated::detail {

/// What all communicators of a world have in common.
///
/// Communicators that are destroyed without `close` drop here what they held together with the
/// other ranks: a destructor can't wait for them. It can be released where all ranks have come to
/// that.
class MpiGroup {
 public:
  /// What one communicator holds.
  struct Held {
    std::uint64_t id = 0;  // the same on all ranks, and of no other communicator of the group
    MPI_Comm comm = MPI_COMM_NULL;
    std::vector<SharedWindow> windows = {};
  };

  /// Collective over `comm`; blocks.
  /// @param wants_window  whether ranks of one host are to share memory.
  MpiGroup(MPI_Comm comm, bool wants_window, bool is_ours);

  Notices notices;
  int local_rank = 0;  ///< among the ranks of this host
  int local_size = 1;
  /// Whether all ranks are on this host and are to share memory.
  bool has_window = false;
  /// Whether the ranks of this host have fewer cores than they are.
  bool is_crowded = false;
  /// Whether the library has begun the job, and ends it when a rank fails.
  bool is_ours = false;
  /// Whether an operation has failed: others may still write to what it used.
  std::atomic<bool> has_failed = false;
  /// Copies are with the tensors that lie in windows.
  std::shared_ptr<const bool> window_users = std::make_shared<const bool>(true);

  /// One communicator more.
  void open() noexcept;

  /// Releases what a communicator holds. Collective; blocks.
  void close(Held& held);

  /// What a communicator leaves, for `release`. Not collective.
  void drop(Held&& held) noexcept;

  /// Whether nothing is left.
  bool is_over() const noexcept;

  /// Whether there is something to release that is of no use on this rank any more.
  bool is_releasable() const noexcept;

  /// Releases all that was dropped. Collective over ranks on all of which `is_releasable`; blocks.
  void release();

 private:
  void free_all(Held& held) const;

  mutable std::mutex mutex_;
  int open_ = 0;
  std::vector<Held> dropped_;
};

}  // namespace torch_accelerated::detail
