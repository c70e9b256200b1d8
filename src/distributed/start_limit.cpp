// SPDX-License-Identifier: Apache-2.0
#include "distributed/start_limit.h"

#include <unistd.h>

#include "base/text.h"
#include "distributed/launcher.h"
#include "distributed/tell.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {
namespace {

using std::chrono::milliseconds;

// In which the launcher surely has ended the others once one has ended: Open MPI's takes a second.
constexpr milliseconds kLaunchersTime{10'000};

}  // namespace

StartLimit::StartLimit(milliseconds time) : thread_([this, time] { watch(time); }) {}

StartLimit::~StartLimit() {
  {
    const std::lock_guard lock(mutex_);
    has_started_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StartLimit::watch(milliseconds time) {
  // The first to begin has waited longest: it tells, and the job ends before the others' turn.
  const auto limit = claim_.is_held() ? time : time + kLaunchersTime;
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, limit, [this] { return has_started_; })) return;
  tell(late_start_text(time), launched_rank());
  // MPI_Abort may not be called yet; the launcher sees the status and ends the others.
  _exit(static_cast<int>(ExitCode::kTimeout));
}

std::string late_start_text(milliseconds time) {
  return concat(
      "make_world: not all ranks came within ", time.count(),
      " ms; every rank has to make its Accelerator or World, and one that hangs or works "
      "before that holds up all others; start_timeout (AcceleratorOptions::first_timeout) "
      "gives them more time");
}

}  // namespace torch_accelerated::detail
