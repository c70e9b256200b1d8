// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "distributed/mpi_api.h"
#include "distributed/notices.h"

namespace torch_accelerated::detail {

/// What all communicators of a world have in common.
struct MpiGroup {
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
  /// Communicators that are not closed yet.
  int open_communicators = 0;
};

}  // namespace torch_accelerated::detail
