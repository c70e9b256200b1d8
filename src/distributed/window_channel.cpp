// SPDX-License-Identifier: Apache-2.0
#include "distributed/window_channel.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "distributed/cache_copy.h"
#include "distributed/job.h"
#include "distributed/late_ranks.h"
#include "distributed/mpi_job.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated::detail {
namespace {

// Looks before a waiting rank lets others run: some 20 us where every rank has a core.
constexpr int kLooks = 1500;
constexpr int kLooksInACrowd = 20;

std::int64_t milliseconds_now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE,
                &now);  // a tenth of the cost, and the same in all processes
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

std::unique_ptr<Channel> WindowChannel::make(MPI_Comm comm, std::shared_ptr<MpiGroup> group,
                                             std::uint64_t id) {
  auto window = SharedWindow::allocate(comm, sizeof(WindowArea));
  if (window) {
    return std::unique_ptr<Channel>(
        new WindowChannel(comm, std::move(group), id, std::move(*window)));
  }
  if (rank_in(comm) == 0) {
    log(LogLevel::kWarning,
        "the ranks of this host can't share memory, there is too little of it in /dev/shm; they "
        "send messages, which is slower");
  }
  return std::make_unique<MpiChannel>(comm, std::move(group), id);
}

WindowChannel::WindowChannel(MPI_Comm comm, std::shared_ptr<MpiGroup> shared_group,
                             std::uint64_t id, SharedWindow window)
    : MpiChannel(comm, std::move(shared_group), id) {
  for (int peer = 0; peer < size(); ++peer) {
    areas_.push_back(reinterpret_cast<WindowArea*>(window.area_of(peer)));
  }
  windows().push_back(std::move(window));
  calls_.resize(areas_.size());
  parts_.resize(areas_.size());
  if (group().is_ours) share_job_teller(&area_of(0).story.teller);
}

// --- Phases --------------------------------------------------------------------------------------

void WindowChannel::begin_operation(const Call& mine, std::chrono::milliseconds timeout) {
  begin(mine, timeout);
  begin_phase();
  auto& area = area_of(rank());
  area.calls[phase_ % 2] = mine;
  std::memcpy(area.story.name, mine.name, sizeof(mine.name));
  area.story.begun_time.store(milliseconds_now(), std::memory_order_relaxed);
  area.story.begun.store(mine.number, std::memory_order_relaxed);
}

void WindowChannel::arrive(std::uint64_t agreement, std::uint64_t placement) {
  auto& head = head_of(rank());
  head.agreement = agreement;
  head.placement = placement;
  head.phase.store(phase_, std::memory_order_release);
}

void WindowChannel::wait_for_all() {
  for (int peer = 0; peer < size(); ++peer) {
    const auto& phase = head_of(peer).phase;
    if (phase.load(std::memory_order_acquire) == phase_) continue;
    Patience patience(group().is_crowded ? kLooksInACrowd : kLooks);
    while (phase.load(std::memory_order_acquire) != phase_) {
      if (!patience.pause()) continue;
      look_for_failures();
      if (patience.waited() >= timeout()) give_up();
    }
  }
}

// What ranks have called is read only where it isn't the same.
void WindowChannel::check_calls() {
  bool agree = true;
  for (int peer = 0; peer < size(); ++peer) {
    agree = agree && head_of(peer).agreement == head_of(0).agreement;
  }
  if (agree) return;
  for (int peer = 0; peer < size(); ++peer) {
    calls_[static_cast<std::size_t>(peer)] = area_of(peer).calls[phase_ % 2];
  }
  check_agreement(calls_, rank());
}

void WindowChannel::look_for_failures() {
  for (int peer = 0; peer < size(); ++peer) {
    const auto& story = area_of(peer).story;
    if (peer == rank() || story.failed.load(std::memory_order_acquire) == 0) continue;
    group().has_failed = true;
    if (group().is_ours) note_job_failure();
    CommunicationError error(concat(call().name, " number ", call().number, ": rank ", peer,
                                    " has failed: ", story.text),
                             static_cast<ExitCode>(story.exit_code));
    error.set_rank(rank());
    throw error;
  }
  MpiChannel::look_for_failures();
}

void WindowChannel::give_up() {
  LateRanks ranks(call(), timeout());
  for (int peer = 0; peer < size(); ++peer) {
    if (head_of(peer).phase.load(std::memory_order_acquire) == phase_) {
      ranks.add_waiting(peer);
      continue;
    }
    const auto& story = area_of(peer).story;
    const auto begun = story.begun.load(std::memory_order_relaxed);
    const auto age = milliseconds_now() - story.begun_time.load(std::memory_order_relaxed);
    ranks.add_late(peer, begun == 0 ? "nowhere"
                                    : concat("in ", story.name, " number ", begun,
                                             ", which it began ", age, " ms ago"));
  }
  fail(ranks.text(), ExitCode::kTimeout);
}

void WindowChannel::tell_failure(const std::string& text, ExitCode exit_code) noexcept {
  auto& story = area_of(rank()).story;
  if (story.failed.load(std::memory_order_relaxed) == 0) {
    story.exit_code = static_cast<std::int32_t>(exit_code);
    std::strncpy(story.text, text.c_str(), sizeof(story.text) - 1);
    story.failed.store(1, std::memory_order_release);
  }
  MpiChannel::tell_failure(text, exit_code);
}

std::span<const Call> WindowChannel::meet(const Call& mine, std::chrono::milliseconds timeout) {
  begin_operation(mine, timeout);
  arrive(mine.agreement);
  wait_for_all();
  check_calls();
  for (int peer = 0; peer < size(); ++peer) {
    calls_[static_cast<std::size_t>(peer)] = area_of(peer).calls[phase_ % 2];
  }
  return calls_;
}

// --- Moving --------------------------------------------------------------------------------------

void WindowChannel::all_gather(Bytes mine, std::span<const MutableBytes> all) {
  std::int64_t longest = 0;
  for (const auto& part : all) longest = std::max(longest, std::ssize(part));
  for (std::int64_t at = 0; at < longest; at += WindowArea::kInSlot) {
    const auto length_at = [at](std::int64_t bytes) {
      return std::clamp<std::int64_t>(bytes - at, 0, WindowArea::kInSlot);
    };
    begin_phase();
    ++slot_uses_;
    cache_copy(slot_of(rank()), mine.data() + at, length_at(std::ssize(mine)));
    arrive();
    wait_for_all();
    for (int peer = 0; peer < size(); ++peer) {
      const auto part = all[static_cast<std::size_t>(peer)];
      cache_copy(part.data() + at, slot_of(peer), length_at(std::ssize(part)));
    }
  }
}

void WindowChannel::all_to_all(std::span<const Bytes> sent, std::span<const MutableBytes> received,
                               std::int64_t longest) {
  // A slot has a section for each rank.
  const auto section = WindowArea::kInSlot / size() / kCacheLine * kCacheLine;
  for (std::int64_t at = 0; at < longest; at += section) {
    const auto length_at = [at, section](std::int64_t bytes) {
      return std::clamp<std::int64_t>(bytes - at, 0, section);
    };
    begin_phase();
    ++slot_uses_;
    for (int peer = 0; peer < size(); ++peer) {
      const auto part = sent[static_cast<std::size_t>(peer)];
      cache_copy(slot_of(rank()) + section * peer, part.data() + at, length_at(std::ssize(part)));
    }
    arrive();
    wait_for_all();
    for (int peer = 0; peer < size(); ++peer) {
      const auto part = received[static_cast<std::size_t>(peer)];
      cache_copy(part.data() + at, slot_of(peer) + section * rank(), length_at(std::ssize(part)));
    }
  }
}

void WindowChannel::broadcast(MutableBytes bytes, int root) {
  for (std::int64_t at = 0; at < std::ssize(bytes); at += WindowArea::kInSlot) {
    const auto length = std::min(std::ssize(bytes) - at, WindowArea::kInSlot);
    begin_phase();
    ++slot_uses_;
    if (rank() == root) cache_copy(slot_of(rank()), bytes.data() + at, length);
    arrive();
    wait_for_all();
    if (rank() != root) cache_copy(bytes.data() + at, slot_of(root), length);
  }
}

// --- What the ranks hold together ----------------------------------------------------------------

std::byte* WindowChannel::make_buffer(std::int64_t bytes) {
  auto window = SharedWindow::allocate(comm(), static_cast<std::size_t>(bytes));
  if (!window) {
    if (rank() == 0) {
      log(LogLevel::kWarning,
          concat("there is too little shared memory in /dev/shm for a buffer of ", bytes,
                 " bytes a rank; it is summed in pieces, which is slower"));
    }
    return nullptr;
  }
  windows().push_back(std::move(*window));
  return windows().back().area_of(rank());
}

std::unique_ptr<Channel> WindowChannel::duplicate() {
  const auto [duplicate, id] = duplicate_own();
  return make(duplicate, shared_group(), id);
}

}  // namespace torch_accelerated::detail
