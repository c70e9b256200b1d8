// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// How the ranks of a world talk.
struct WorldOptions {
  /// Whether ranks of one host share memory; false: they send messages, as between hosts.
  bool shared_window = true;

  /// How long ranks that have come here wait for those that haven't.
  std::chrono::milliseconds start_timeout{std::chrono::minutes(20)};
};

/// The ranks that train together, and how they talk. Two communicators over the same ranks, so that
/// what one is used for never meets what the other is used for.
struct World {
  std::unique_ptr<Communicator> gradients;  ///< for gradients and what is reduced right behind them
  std::unique_ptr<Communicator> control;    ///< for everything else
  int local_rank = 0;                       ///< among the ranks of this host
  int local_size = 1;                       ///< ranks of this host
  std::string host = {};                    ///< its name, for messages
  /// Whether the program gave the ranks: the library then neither aborts the job nor ends MPI nor
  /// changes thread counts.
  bool is_callers = false;
  /// Whether the two communicators may be used by two threads at once; false where MPI was
  /// initialised with less than MPI_THREAD_MULTIPLE: one thread then makes all calls.
  bool allows_threads = true;

  int rank() const noexcept { return control->rank(); }
  int size() const noexcept { return control->size(); }

  /// Tells the other ranks that this one goes no further. Where the library has initialised MPI it
  /// prints one line and ends the job with `exit_code`, and doesn't return.
  void abort(const std::string& line, ExitCode exit_code) noexcept;

  /// Releases what the ranks hold together. Collective; a second call does nothing.
  void close();
};

/// The ranks that a launcher (mpirun, srun) has started together with this process, or a world of
/// one process, for which MPI is not touched. Collective.
///
/// A world that was destroyed without `close` is released when the next one is made, once all ranks
/// have destroyed it.
/// @throws StateError          the environment announces several ranks and MPI knows one, or the
///                             library was built without MPI; says which launcher it was and what
///                             to try.
/// @throws CommunicationError  a rank doesn't come; or, on all ranks, they have loaded different
///                             MPI libraries.
World make_world(const WorldOptions& options = {});

/// A world of one process, whatever the environment says.
World make_single_world();

}  // namespace torch_accelerated
