// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "distributed/mpi_channel.h"
#include "distributed/shared_window.h"
#include "distributed/window_area.h"

namespace torch_accelerated::detail {

/// Moves bytes through memory that all ranks share, all of them on one host; no MPI call on the way
/// but rare looks for notices in long waits. Buffers are summed where they are: each rank sums its
/// slice of all ranks' buffers and writes the sum into all of them.
class WindowChannel : public MpiChannel {
 public:
  /// Collective; blocks.
  /// @return a WindowChannel, or on all ranks a MpiChannel where there is too little shared memory.
  static std::unique_ptr<Channel> make(MPI_Comm comm, std::shared_ptr<MpiGroup> group,
                                       std::uint64_t id);

  std::string name() const override { return "MPI, shared window"; }
  std::span<const Call> meet(const Call& mine, std::chrono::milliseconds timeout) override;
  void all_reduce(const Call& mine, std::chrono::milliseconds timeout,
                  std::span<const Summand> summands, SumOrder order) override;
  void all_gather(Bytes mine, std::span<const MutableBytes> all) override;
  void all_to_all(std::span<const Bytes> sent, std::span<const MutableBytes> received,
                  std::int64_t longest) override;
  void broadcast(MutableBytes bytes, int root) override;
  std::byte* make_buffer(std::int64_t bytes) override;
  std::unique_ptr<Channel> duplicate() override;
  void tell_failure(const std::string& text, ExitCode exit_code) noexcept override;

 protected:
  void look_for_failures() override;
  [[noreturn]] void give_up() override;

 private:
  WindowChannel(MPI_Comm comm, std::shared_ptr<MpiGroup> group, std::uint64_t id,
                SharedWindow window);

  // Where a summand lies in a window.
  struct Place {
    const SharedWindow* window = nullptr;
    std::int64_t offset = 0;
    std::uint64_t id = 0;  // 0: in memory of the rank's own
  };

  void begin_phase() { ++phase_; }
  void arrive(std::uint64_t agreement = 0, std::uint64_t placement = 0);
  void wait_for_all();
  void begin_operation(const Call& mine, std::chrono::milliseconds timeout);
  void check_calls();

  Place place_of(const Summand& summand) const;
  WindowArea& area_of(int rank) const { return *areas_[static_cast<std::size_t>(rank)]; }
  WindowArea::Head& head_of(int rank) const { return area_of(rank).heads[phase_ % 2]; }
  std::byte* slot_of(int rank) const { return area_of(rank).slots[slot_uses_ % 2].data; }

  std::int64_t divide(std::span<const Summand> summands);
  void sum_small(SumOrder order, bool in_head);
  bool sum_in_place(SumOrder order);
  void sum_in_chunks(const Summand& summand, SumOrder order);
  void sum_chunk(const Summand& chunk, SumOrder order);

  std::vector<WindowArea*> areas_;  // of each rank, in the first window; buffers are in the others
  std::uint64_t phase_ = 0;         // the last one that this rank has come to
  std::uint64_t slot_uses_ = 0;
  std::vector<Call> calls_;
  // Kept between sums, so that small ones allocate nothing.
  std::vector<Summand> small_;
  std::vector<std::pair<Summand, Place>> large_;
  std::vector<const void*> parts_;
  std::vector<void*> outs_;
};

}  // namespace torch_accelerated::detail
