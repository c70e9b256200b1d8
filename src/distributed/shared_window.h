// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "distributed/mpi_api.h"

namespace torch_accelerated::detail {

/// Memory that the ranks of one host share: an area of each rank, all of one size, that every rank
/// reads and writes. It begins as zeros.
///
/// The memory stays until `free` or the end of the process; nothing is released by a destructor.
class SharedWindow {
 public:
  /// Collective; blocks.
  /// @param host   a communicator whose ranks are all on this host.
  /// @param bytes  of each rank's area, the same on all ranks.
  /// @return nothing, on all ranks, where there is too little shared memory.
  static std::optional<SharedWindow> allocate(MPI_Comm host, std::size_t bytes);

  /// Begins at a page.
  std::byte* area_of(int rank) const { return areas_[static_cast<std::size_t>(rank)]; }
  std::size_t bytes() const { return bytes_; }

  /// Collective; blocks.
  void free();

 private:
  SharedWindow(MPI_Win window, std::size_t bytes) : window_(window), bytes_(bytes) {}

  MPI_Win window_;
  std::size_t bytes_;
  std::vector<std::byte*> areas_;
};

}  // namespace torch_accelerated::detail
