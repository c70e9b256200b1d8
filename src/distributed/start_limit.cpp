// SPDX-License-Identifier: Apache-2.0
#include "distributed/start_limit.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "distributed/launcher.h"
#include "distributed/tell.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {
namespace {

// Whether this process is the first of its host's that asks, until it ends: each of them tries to
// take a name that one process at a time can have, a socket's that is no file. There is no MPI yet
// by which they could agree.
bool is_first_on_host() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const char* job = std::getenv("PMIX_NAMESPACE");
  const auto name =
      concat("torch_accelerated.", getuid(), ".", job != nullptr ? job : concat(getppid()));
  const auto length = std::min(name.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);  // after a 0: not in the file system
  const int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (handle < 0) return true;
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  return bind(handle, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
}

}  // namespace

StartLimit::StartLimit(std::chrono::milliseconds time) : thread_([this, time] { watch(time); }) {}

StartLimit::~StartLimit() {
  {
    const std::lock_guard lock(mutex_);
    has_started_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StartLimit::watch(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, time, [this] { return has_started_; })) return;
  const bool is_to_tell = is_first_on_host();
  if (is_to_tell) tell(late_start_text(time), launched_rank());
  // Others whose time is over now find the name taken, and wait for their end.
  std::this_thread::sleep_for(std::chrono::milliseconds(is_to_tell ? 100 : 500));
  // MPI_Abort may not be called yet; the launcher sees the status and ends the others.
  _exit(static_cast<int>(ExitCode::kTimeout));
}

std::string late_start_text(std::chrono::milliseconds time) {
  return concat(
      "make_world: not all ranks came within ", time.count(),
      " ms; every rank has to make its Accelerator or World, and one that hangs or works "
      "before that holds up all others; start_timeout (AcceleratorOptions::first_timeout) "
      "gives them more time");
}

}  // namespace torch_accelerated::detail
