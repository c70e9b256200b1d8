// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_job.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/text.h"
#include "distributed/host_claim.h"
#include "distributed/launcher.h"
#include "distributed/mpi_library.h"
#include "distributed/start_limit.h"
#include "distributed/tell.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated::detail {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long a rank that has ended waits for those that still work: as long as one may reasonably
// write or evaluate what the run has brought.
constexpr std::chrono::hours kLongestEnd{1};

constexpr int kMostReleased = 64;  // worlds at a time

struct Job {
  bool is_ours = false;
  int rank = 0;
  int thread_level = MPI_THREAD_SINGLE;
  MPI_Comm comm = MPI_COMM_NULL;  // to meet at the end
  std::atomic<bool> has_failed = false;
  std::atomic<bool> has_told = false;
  std::atomic<std::atomic<std::uint32_t>*> teller = nullptr;
  std::mutex mutex;
  std::map<std::uint64_t, std::shared_ptr<MpiGroup>> groups;  // by number, which all ranks share
  std::uint64_t last_number = 0;
};

// Never destroyed: it is used while the process ends.
Job& job() {
  static Job* the_job = new Job;
  return *the_job;
}

bool may_call_mpi() {
  int is_finalized = 0;
  MPI_Finalized(&is_finalized);
  if (is_finalized != 0) return false;
  if (job().thread_level == MPI_THREAD_MULTIPLE) return true;
  int is_main = 0;
  return MPI_Is_thread_main(&is_main) == MPI_SUCCESS && is_main != 0;
}

// Of several ranks that fail at once, one prints.
bool is_to_tell(ExitCode exit_code) {
  auto* teller = job().teller.load();
  if (teller != nullptr) {
    std::uint32_t nobody = 0;
    return teller->compare_exchange_strong(nobody, static_cast<std::uint32_t>(job().rank) + 1);
  }
  if (exit_code != ExitCode::kTimeout) return true;
  // Without shared memory one of a host tells; of the hosts' the lower rank gets a start, and the
  // job ends before the higher one's turn.
  static const auto* claim = new HostClaim;  // until this process ends
  if (claim->is_held()) std::this_thread::sleep_for(milliseconds(50) * std::min(job().rank, 8));
  return claim->is_held();
}

[[noreturn]] void abort_job(int status) {
  if (may_call_mpi()) MPI_Abort(MPI_COMM_WORLD, status);
  _exit(status);
}

void at_exit(int status, void* /*unused*/) {
  int is_finalized = 0;
  MPI_Finalized(&is_finalized);
  if (is_finalized != 0) return;
  if (status != 0) {
    end_job(concat("the program has ended with status ", status, " on this rank"),
            static_cast<ExitCode>(status));
  }
  if (job().has_failed) {
    end_job("the program has ended after an error of communication", ExitCode::kTimeout);
  }
  for (const auto& [number, group] : job().groups) group->notices.tell_end();
  if (!meet_within(job().comm, kLongestEnd)) {
    end_job("the program has ended here an hour ago, but not on all ranks", ExitCode::kTimeout);
  }
  MPI_Finalize();
}

}  // namespace

void begin_job(milliseconds time) {
  int level = MPI_THREAD_SINGLE;
  // Before MPI begins: with another library than it was built for that may end badly.
  if (launched_rank() == 0) check_mpi_library();
  {
    const StartLimit limit(time);
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
    job().comm = duplicate_comm(MPI_COMM_WORLD);
  }
  job().thread_level = level;
  job().rank = rank_in(job().comm);
  job().is_ours = true;
#if defined(__GLIBC__)
  on_exit(at_exit, nullptr);
#else
  std::atexit([] { at_exit(0, nullptr); });  // which doesn't know the status
#endif
}

void add_to_job(MPI_Comm comm, std::shared_ptr<MpiGroup> group) {
  const std::lock_guard lock(job().mutex);
  auto& number = job().last_number;
  // A rank on which a world failed to come about has counted fewer.
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &number, 1, MPI_UINT64_T, MPI_MAX, comm), "MPI_Allreduce");
  job().groups.emplace(++number, std::move(group));
}

void release_dropped(MPI_Comm comm) {
  const std::lock_guard lock(job().mutex);
  std::vector<std::uint64_t> mine;
  for (const auto& [number, group] : job().groups) {
    if (group->is_releasable() && mine.size() < kMostReleased) mine.push_back(number);
  }
  mine.resize(kMostReleased);
  std::vector<std::uint64_t> all(kMostReleased * static_cast<std::size_t>(size_of(comm)));
  check_mpi(MPI_Allgather(mine.data(), kMostReleased, MPI_UINT64_T, all.data(), kMostReleased,
                          MPI_UINT64_T, comm),
            "MPI_Allgather");
  for (const auto number : mine) {
    const bool on_all = std::count(all.begin(), all.end(), number) == size_of(comm);
    if (number != 0 && on_all) job().groups.at(number)->release();
  }
  std::erase_if(job().groups, [](const auto& item) { return item.second->is_over(); });
}

void share_job_teller(std::atomic<std::uint32_t>* teller) noexcept {
  std::atomic<std::uint32_t>* none = nullptr;
  if (teller == nullptr) {
    job().teller = nullptr;
  } else {
    job().teller.compare_exchange_strong(none, teller);
  }
}

bool is_job_ours() noexcept { return job().is_ours; }

int job_rank() noexcept { return job().rank; }

void note_job_failure() noexcept { job().has_failed = true; }

void end_job(const std::string& line, ExitCode exit_code) noexcept {
  if (!is_job_ours()) return;
  if (!job().has_told.exchange(true)) {
    if (is_to_tell(exit_code)) {
      tell(line, job().rank);
    } else {
      std::this_thread::sleep_for(milliseconds(500));  // the rank that tells ends the job
    }
  }
  abort_job(static_cast<int>(exit_code));
}

void meet_before_end() noexcept {
  job().has_told = true;
  if (is_job_ours() && may_call_mpi()) meet_within(job().comm, milliseconds(300));
}

}  // namespace torch_accelerated::detail
