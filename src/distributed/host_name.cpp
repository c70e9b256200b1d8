// SPDX-License-Identifier: Apache-2.0
#include "distributed/host_name.h"

#include <unistd.h>

namespace torch_accelerated::detail {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "this host";
}

}  // namespace torch_accelerated::detail
