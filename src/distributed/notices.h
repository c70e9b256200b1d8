// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "distributed/mpi_api.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {

/// Where a rank waits that was asked how far it has come on some communicator.
struct Whereabouts {
  std::uint64_t asked = 0;  // the communicator's id
  std::int64_t begun = 0;   // operations on it
  std::uint64_t id = 0;     // of the communicator that it waits in
  std::int64_t number = 0;  // of the operation there
  char name[16] = {};       // of that
};

/// What a rank tells all others: without being asked, that it has failed or that its program has
/// ended; and when one whose time is over asks, where it waits. They look for it while they wait.
///
/// One for the communicators of a world, which share its messages. Safe to use from any thread that
/// may call MPI.
class Notices {
 public:
  /// Collective; blocks.
  explicit Notices(MPI_Comm comm) : comm_(duplicate_comm(comm)) {}

  /// How many operations this rank has begun on communicator `id`; the communicator writes it.
  std::shared_ptr<std::atomic<std::int64_t>> operations_of(std::uint64_t id);

  /// Tells that this rank goes no further. Only the first time counts.
  void tell_failure(const std::string& text, ExitCode exit_code) noexcept;

  /// Tells that this rank's program has ended well.
  void tell_end() noexcept;

  /// Looks for notices, and answers questions.
  /// @param operation, number  what this rank waits in, on communicator `id`.
  /// @throws CommunicationError  a rank has failed, or has ended before this operation.
  void check(std::uint64_t id, const char* operation, std::int64_t number);

  /// Asks all others how far they have come on communicator `id`, in which this rank waits, and
  /// listens for `time`.
  /// @return of those that have answered, by rank: those that wait somewhere.
  std::map<int, Whereabouts> ask(std::uint64_t id, const char* operation, std::int64_t number,
                                 std::chrono::milliseconds time);

  /// Gives the messages' communicator back. Collective; blocks.
  void close();

 private:
  struct Failure {
    std::string text;
    ExitCode exit_code;
  };
  using Operations = std::map<std::uint64_t, std::int64_t>;

  void receive_all();
  void receive_answers();
  void answer(std::uint64_t id, const char* operation, std::int64_t number);
  void keep(int rank, const std::vector<char>& message);
  void send(int tag, const std::string& message, int to) noexcept;
  void send_to_all(int tag, const std::string& message) noexcept;

  MPI_Comm comm_;
  std::mutex mutex_;
  bool told_ = false;
  std::unique_ptr<Failure> failure_;
  std::map<int, Operations> ended_;                              // ranks, and how far they came
  std::map<std::uint64_t, std::map<int, Whereabouts>> answers_;  // by what was asked about
  std::map<std::uint64_t, std::shared_ptr<std::atomic<std::int64_t>>> operations_;
};

}  // namespace torch_accelerated::detail
