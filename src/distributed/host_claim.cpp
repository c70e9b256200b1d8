// SPDX-License-Identifier: Apache-2.0
#include "distributed/host_claim.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/text.h"

namespace torch_accelerated::detail {

// A name that one process at a time can have: a socket's that is no file.
HostClaim::HostClaim() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const char* job = std::getenv("PMIX_NAMESPACE");
  const auto name =
      concat("torch_accelerated.", getuid(), ".", job != nullptr ? job : concat(getppid()));
  const auto length = std::min(name.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);  // after a 0: not in the file system
  handle_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (handle_ < 0) return;
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  is_held_ = bind(handle_, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
}

HostClaim::~HostClaim() {
  if (handle_ >= 0) close(handle_);
}

}  // namespace torch_accelerated::detail
