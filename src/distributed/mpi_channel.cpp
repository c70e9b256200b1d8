// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_channel.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "distributed/job.h"
#include "distributed/late_ranks.h"
#include "distributed/rank_sum.h"
#include "distributed/slices.h"

namespace torch_accelerated::detail {
namespace {

constexpr int kData = 1;  // the tag of all messages

constexpr std::int64_t kLongestMessage = std::int64_t{1} << 30;  // MPI counts in int
constexpr std::int64_t kTogether = 4096;       // summands up to here travel together, whole
constexpr std::int64_t kSegment = 64LL << 20;  // what is summed at a time: bounds the memory
constexpr std::chrono::milliseconds kAnswerTime{200};

}  // namespace

struct MpiChannel::Transfer {
  std::vector<MPI_Request> requests;
  std::vector<std::shared_ptr<void>> memory;  // that the requests read and write

  std::byte* make_memory(std::int64_t bytes) {
    const std::shared_ptr<std::byte[]> made(new std::byte[static_cast<std::size_t>(bytes)]);
    memory.push_back(made);
    return made.get();
  }
  void send(MPI_Comm comm, const std::byte* from, std::int64_t bytes, int to) {
    for (std::int64_t at = 0; at < bytes; at += kLongestMessage) {
      const auto length = static_cast<int>(std::min(kLongestMessage, bytes - at));
      check_mpi(MPI_Isend(from + at, length, MPI_BYTE, to, kData, comm, add()), "MPI_Isend");
    }
  }
  void receive(MPI_Comm comm, std::byte* into, std::int64_t bytes, int from) {
    for (std::int64_t at = 0; at < bytes; at += kLongestMessage) {
      const auto length = static_cast<int>(std::min(kLongestMessage, bytes - at));
      check_mpi(MPI_Irecv(into + at, length, MPI_BYTE, from, kData, comm, add()), "MPI_Irecv");
    }
  }
  MPI_Request* add() { return &requests.emplace_back(MPI_REQUEST_NULL); }
};

MpiChannel::MpiChannel(MPI_Comm comm, std::shared_ptr<MpiGroup> group, std::uint64_t id)
    : held_{id, comm, {}},
      group_(std::move(group)),
      rank_(rank_in(comm)),
      size_(size_of(comm)),
      looks_(group_->is_crowded ? 0 : 200),
      operations_(group_->notices.operations_of(id)) {
  group_->open();
}

MpiChannel::~MpiChannel() {
  if (held_.comm != MPI_COMM_NULL) group_->drop(std::move(held_));
}

// --- Waiting -------------------------------------------------------------------------------------

void MpiChannel::begin(const Call& mine, std::chrono::milliseconds timeout) {
  previous_number_ = call_.number;
  std::memcpy(previous_name_, call_.name, sizeof(previous_name_));
  call_ = mine;
  timeout_ = timeout;
  operations_->store(mine.number, std::memory_order_relaxed);
}

void MpiChannel::wait_for(Transfer& transfer) {
  try {
    for (Patience patience(looks_);;) {
      int done = 0;
      check_mpi(MPI_Testall(static_cast<int>(transfer.requests.size()), transfer.requests.data(),
                            &done, MPI_STATUSES_IGNORE),
                "MPI_Testall");
      if (done != 0) return;
      if (!patience.pause()) continue;
      look_for_failures();
      if (patience.waited() >= timeout_) give_up();
    }
  } catch (...) {
    group_->has_failed = true;
    new Transfer(std::move(transfer));  // MPI may still write to its memory, for ever
    throw;
  }
}

void MpiChannel::look_for_failures() {
  try {
    group_->notices.check(held_.id, call_.name, call_.number);
  } catch (CommunicationError& error) {
    error.set_rank(rank_);
    group_->has_failed = true;
    if (group_->is_ours) note_job_failure();
    throw;
  }
}

void MpiChannel::give_up() {
  const auto answers = group_->notices.ask(held_.id, call_.name, call_.number, kAnswerTime);
  LateRanks ranks(call_, timeout_);
  for (int peer = 0; peer < size_; ++peer) {
    const auto found = answers.find(peer);
    const auto* answer = found == answers.end() ? nullptr : &found->second;
    if (peer == rank_ || (answer != nullptr && answer->begun >= call_.number)) {
      ranks.add_waiting(peer);
    } else {
      ranks.add_late(peer, last_seen(answer));
    }
  }
  fail(ranks.text(), ExitCode::kTimeout);
}

// A rank that doesn't come has begun the operation before: nobody leaves one to which not all come.
std::string MpiChannel::last_seen(const Whereabouts* answer) const {
  auto seen = previous_number_ == 0 ? std::string("nowhere")
                                    : concat("in ", previous_name_, " number ", previous_number_);
  if (answer == nullptr) return seen;
  if (answer->id == held_.id) return seen + ", where it still waits";
  return concat(seen, "; it waits in ", answer->name, " number ", answer->number,
                " of another communicator");
}

void MpiChannel::fail(const std::string& text, ExitCode exit_code) {
  group_->has_failed = true;
  if (group_->is_ours) note_job_failure();
  tell_failure(text, exit_code);
  CommunicationError error(text, exit_code);
  error.set_rank(rank_);
  throw error;
}

void MpiChannel::tell_failure(const std::string& text, ExitCode exit_code) noexcept {
  group_->notices.tell_failure(text, exit_code);
}

// --- Operations ----------------------------------------------------------------------------------

std::span<const Call> MpiChannel::meet(const Call& mine, std::chrono::milliseconds timeout) {
  begin(mine, timeout);
  Transfer transfer;
  auto* calls = reinterpret_cast<Call*>(transfer.make_memory(size_ * std::int64_t{sizeof(Call)}));
  auto* own = reinterpret_cast<Call*>(transfer.make_memory(sizeof(Call)));
  std::memcpy(own, &mine, sizeof(Call));
  check_mpi(MPI_Iallgather(own, sizeof(Call), MPI_BYTE, calls, sizeof(Call), MPI_BYTE, held_.comm,
                           transfer.add()),
            "MPI_Iallgather");
  wait_for(transfer);
  calls_.assign(calls, calls + size_);
  check_agreement(calls_, rank_);
  return calls_;
}

void MpiChannel::all_reduce(const Call& mine, std::chrono::milliseconds timeout,
                            std::span<const Summand> summands, SumOrder order) {
  meet(mine, timeout);
  std::vector<Summand> small;
  for (const auto& summand : summands) {
    if (summand.bytes <= kTogether) small.push_back(summand);
  }
  sum_small(small, order);
  for (const auto& summand : summands) {
    if (summand.bytes > kTogether) sum_slices(summand, order);
  }
}

void MpiChannel::sum_small(std::span<const Summand> summands, SumOrder order) {
  std::int64_t bytes = 0;
  for (const auto& summand : summands) bytes += aligned(summand.bytes);
  if (bytes == 0) return;
  std::vector<std::byte> mine(static_cast<std::size_t>(bytes));
  std::vector<std::byte> received(static_cast<std::size_t>(bytes * size_));
  std::vector<MutableBytes> all;
  all.reserve(static_cast<std::size_t>(size_));
  for (int peer = 0; peer < size_; ++peer) {
    all.push_back(MutableBytes(received).subspan(static_cast<std::size_t>(bytes * peer),
                                                 static_cast<std::size_t>(bytes)));
  }
  std::int64_t at = 0;
  for (const auto& summand : summands) {
    std::memcpy(mine.data() + at, summand.data, static_cast<std::size_t>(summand.bytes));
    at += aligned(summand.bytes);
  }
  all_gather(mine, all);
  at = 0;
  for (const auto& summand : summands) {
    std::vector<const void*> parts;
    parts.reserve(all.size());
    for (const auto& part : all) parts.push_back(part.data() + at);
    sum_over_ranks(summand.data, parts, summand.count, summand.dtype, order);
    at += aligned(summand.bytes);
  }
}

// All-to-all of slices, a sum of this rank's slice, all-gather of the sums.
void MpiChannel::sum_slices(const Summand& summand, SumOrder order) {
  const auto item = summand.bytes / summand.count;
  for (std::int64_t from = 0; from < summand.bytes; from += kSegment) {
    std::byte* data = summand.data + from;
    const Slices slices(std::min(kSegment, summand.bytes - from), size_);
    const auto own = slices.bytes_of(rank_);
    Transfer apart;
    std::byte* received = apart.make_memory(own * size_);
    std::vector<const void*> parts;
    for (int peer = 0; peer < size_; ++peer) {
      parts.push_back(peer == rank_ ? data + slices.begin_of(rank_) : received + own * peer);
      if (peer == rank_) continue;
      apart.receive(held_.comm, received + own * peer, own, peer);
      apart.send(held_.comm, data + slices.begin_of(peer), slices.bytes_of(peer), peer);
    }
    wait_for(apart);
    sum_over_ranks(data + slices.begin_of(rank_), parts, own / item, summand.dtype, order);
    Transfer together;
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      together.receive(held_.comm, data + slices.begin_of(peer), slices.bytes_of(peer), peer);
      together.send(held_.comm, data + slices.begin_of(rank_), own, peer);
    }
    wait_for(together);
  }
}

void MpiChannel::all_gather(Bytes mine, std::span<const MutableBytes> all) {
  Transfer transfer;
  for (int peer = 0; peer < size_; ++peer) {
    const auto part = all[static_cast<std::size_t>(peer)];
    if (peer == rank_) {
      copy_bytes(part.data(), mine.data(), std::ssize(mine));
      continue;
    }
    transfer.receive(held_.comm, part.data(), std::ssize(part), peer);
    transfer.send(held_.comm, mine.data(), std::ssize(mine), peer);
  }
  wait_for(transfer);
}

void MpiChannel::all_to_all(std::span<const Bytes> sent, std::span<const MutableBytes> received,
                            std::int64_t /*longest*/) {
  Transfer transfer;
  for (int peer = 0; peer < size_; ++peer) {
    const auto from = sent[static_cast<std::size_t>(peer)];
    const auto into = received[static_cast<std::size_t>(peer)];
    if (peer == rank_) {
      copy_bytes(into.data(), from.data(), std::ssize(from));
      continue;
    }
    transfer.receive(held_.comm, into.data(), std::ssize(into), peer);
    transfer.send(held_.comm, from.data(), std::ssize(from), peer);
  }
  wait_for(transfer);
}

void MpiChannel::broadcast(MutableBytes bytes, int root) {
  Transfer transfer;
  for (std::int64_t at = 0; at < std::ssize(bytes); at += kLongestMessage) {
    const auto length = static_cast<int>(std::min(kLongestMessage, std::ssize(bytes) - at));
    check_mpi(MPI_Ibcast(bytes.data() + at, length, MPI_BYTE, root, held_.comm, transfer.add()),
              "MPI_Ibcast");
  }
  wait_for(transfer);
}

std::byte* MpiChannel::make_buffer(std::int64_t /*bytes*/) { return nullptr; }

std::pair<MPI_Comm, std::uint64_t> MpiChannel::duplicate_own() {
  Transfer transfer;
  auto* duplicate = reinterpret_cast<MPI_Comm*>(transfer.make_memory(sizeof(MPI_Comm)));
  check_mpi(MPI_Comm_idup(held_.comm, duplicate, transfer.add()), "MPI_Comm_idup");
  wait_for(transfer);
  check_mpi(MPI_Comm_set_errhandler(*duplicate, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return {*duplicate, held_.id * 1'000'003 + ++duplicates_};
}

std::unique_ptr<Channel> MpiChannel::duplicate() {
  const auto [comm, id] = duplicate_own();
  return std::make_unique<MpiChannel>(comm, group_, id);
}

void MpiChannel::close() { group_->close(held_); }

}  // namespace torch_accelerated::detail
