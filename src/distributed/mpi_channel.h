// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <utility>
#include <vector>

#include "distributed/channel.h"
#include "distributed/mpi_group.h"
#include "distributed/patience.h"

namespace torch_accelerated::detail {

/// Moves bytes by MPI's messages, so also between hosts. Numbers are summed on this side, in the
/// order that was asked for: MPI adds in an order of its own, and knows no halves.
class MpiChannel : public Channel {
 public:
  /// @param comm  the channel's own, over the group's ranks.
  /// @param id    the same on all ranks, and of no other channel of the group.
  MpiChannel(MPI_Comm comm, std::shared_ptr<MpiGroup> group, std::uint64_t id);
  ~MpiChannel() override;

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return size_; }
  std::string name() const override { return "MPI"; }
  std::span<const Call> meet(const Call& mine, std::chrono::milliseconds timeout) override;
  void all_reduce(const Call& mine, std::chrono::milliseconds timeout,
                  std::span<const Summand> summands, SumOrder order) override;
  void all_gather(Bytes mine, std::span<const MutableBytes> all) override;
  void all_to_all(std::span<const Bytes> sent, std::span<const MutableBytes> received,
                  std::int64_t longest) override;
  void broadcast(MutableBytes bytes, int root) override;
  std::byte* make_buffer(std::int64_t bytes) override;
  std::unique_ptr<Channel> duplicate() override;
  void close() override;
  void tell_failure(const std::string& text, ExitCode exit_code) noexcept override;

 protected:
  void begin(const Call& mine, std::chrono::milliseconds timeout);
  const Call& call() const { return call_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  MpiGroup& group() { return *group_; }
  MPI_Comm comm() const { return held_.comm; }
  std::vector<SharedWindow>& windows() { return held_.windows; }
  const std::vector<SharedWindow>& windows() const { return held_.windows; }
  std::shared_ptr<MpiGroup> shared_group() { return group_; }

  /// @throws CommunicationError  a rank has told that it doesn't come.
  virtual void look_for_failures();

  /// @throws CommunicationError  always: this rank has waited for longer than the timeout.
  [[noreturn]] virtual void give_up();

  /// Tells the others, and throws.
  [[noreturn]] void fail(const std::string& text, ExitCode exit_code);

  /// A duplicate of the channel's MPI communicator, and an id for it. Collective.
  std::pair<MPI_Comm, std::uint64_t> duplicate_own();

 private:
  struct Transfer;  // messages under way

  void wait_for(Transfer& transfer);
  std::string last_seen(const Whereabouts* answer) const;
  void sum_small(std::span<const Summand> summands, SumOrder order);
  void sum_slices(const Summand& summand, SumOrder order);

  MpiGroup::Held held_;
  std::shared_ptr<MpiGroup> group_;
  std::uint64_t duplicates_ = 0;
  int rank_;
  int size_;
  int looks_;
  std::shared_ptr<std::atomic<std::int64_t>> operations_;  // what the group's notices tell
  Call call_{};
  std::int64_t previous_number_ = 0;  // of the operation before, to which all ranks have come
  char previous_name_[sizeof(Call::name)] = {};
  std::chrono::milliseconds timeout_{};
  std::vector<Call> calls_;
};

}  // namespace torch_accelerated::detail
