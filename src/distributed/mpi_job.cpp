// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_job.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "base/text.h"
#include "distributed/mpi_library.h"
#include "distributed/tell.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated::detail {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long a rank that has ended waits for those that still work: as long as one may reasonably
// write or evaluate what the run has brought.
constexpr std::chrono::hours kLongestEnd{1};

struct Job {
  bool is_ours = false;
  int rank = 0;
  int thread_level = MPI_THREAD_SINGLE;
  MPI_Comm comm = MPI_COMM_NULL;  // to meet at the end
  std::atomic<bool> has_failed = false;
  std::atomic<bool> has_told = false;
  std::atomic<std::atomic<std::uint32_t>*> teller = nullptr;
  std::mutex mutex;
  std::vector<std::shared_ptr<MpiGroup>> groups;
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

// Whether all ranks have come to the end in this time.
bool meet_at_end(milliseconds time) {
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(job().comm, &request) != MPI_SUCCESS) return false;
  const auto start = Clock::now();
  for (;;) {
    int done = 0;
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    if (done != 0) return true;
    const auto waited = Clock::now() - start;
    if (waited > time) return false;
    std::this_thread::sleep_for(
        std::clamp<Clock::duration>(waited / 16, std::chrono::microseconds(10), milliseconds(20)));
  }
}

// Of several ranks that fail at once, one prints.
bool is_to_tell(ExitCode exit_code) {
  auto* teller = job().teller.load();
  if (teller != nullptr) {
    std::uint32_t nobody = 0;
    return teller->compare_exchange_strong(nobody, static_cast<std::uint32_t>(job().rank) + 1);
  }
  // Without shared memory the lower rank gets a start; the job ends before the higher one's turn.
  if (exit_code == ExitCode::kTimeout) {
    std::this_thread::sleep_for(milliseconds(50) * std::min(job().rank, 8));
  }
  return true;
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
  for (const auto& group : job().groups) group->notices.tell_end();
  if (!meet_at_end(kLongestEnd)) {
    end_job("the program has ended here an hour ago, but not on all ranks", ExitCode::kTimeout);
  }
  MPI_Finalize();
}

}  // namespace

void begin_job() {
  check_mpi_library();
  int level = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
  job().thread_level = level;
  job().comm = duplicate_comm(MPI_COMM_WORLD);
  job().rank = rank_in(job().comm);
  job().is_ours = true;
#if defined(__GLIBC__)
  on_exit(at_exit, nullptr);
#else
  std::atexit([] { at_exit(0, nullptr); });  // which doesn't know the status
#endif
}

void add_to_job(std::shared_ptr<MpiGroup> group) {
  const std::lock_guard lock(job().mutex);
  job().groups.push_back(std::move(group));
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
  if (is_job_ours() && may_call_mpi()) meet_at_end(milliseconds(300));
}

}  // namespace torch_accelerated::detail
