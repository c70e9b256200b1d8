// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_group.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "distributed/mpi_job.h"

namespace torch_accelerated::detail {
namespace {

// The cores that any of the ranks may run on: launchers often give each rank one of its own.
int cores_of_all(MPI_Comm host) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return size_of(host);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &cores, sizeof(cores), MPI_BYTE, MPI_BOR, host),
            "MPI_Allreduce");
  return CPU_COUNT(&cores);
}

}  // namespace

MpiGroup::MpiGroup(MPI_Comm comm, bool wants_window, bool ours) : notices(comm), is_ours(ours) {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  local_rank = rank_in(host);
  local_size = size_of(host);
  is_crowded = cores_of_all(host) < local_size;
  has_window = holds_on_all(comm, wants_window && local_size == size_of(comm));
  check_mpi(MPI_Comm_free(&host), "MPI_Comm_free");
}

void MpiGroup::open() noexcept {
  const std::lock_guard lock(mutex_);
  ++open_;
}

void MpiGroup::close(Held& held) {
  free_all(held);
  const std::lock_guard lock(mutex_);
  if (--open_ == 0 && dropped_.empty()) notices.close();
}

void MpiGroup::drop(Held&& held) noexcept {
  const std::lock_guard lock(mutex_);
  --open_;
  dropped_.push_back(std::move(held));
}

bool MpiGroup::is_over() const noexcept {
  const std::lock_guard lock(mutex_);
  return open_ == 0 && dropped_.empty();
}

bool MpiGroup::is_releasable() const noexcept {
  const std::lock_guard lock(mutex_);
  return open_ == 0 && !dropped_.empty() && !has_failed && window_users.use_count() == 1;
}

void MpiGroup::release() {
  const std::lock_guard lock(mutex_);
  std::sort(dropped_.begin(), dropped_.end(),
            [](const Held& a, const Held& b) { return a.id < b.id; });
  for (auto& held : std::exchange(dropped_, {})) free_all(held);
  notices.close();
}

void MpiGroup::free_all(Held& held) const {
  // Where those that end a job agree on who tells why may lie in one of them.
  if (is_ours && !held.windows.empty()) share_job_teller(nullptr);
  for (auto& window : held.windows) window.free();
  held.windows.clear();
  check_mpi(MPI_Comm_free(&held.comm), "MPI_Comm_free");
}

}  // namespace torch_accelerated::detail
