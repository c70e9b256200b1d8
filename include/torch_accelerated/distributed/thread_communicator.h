// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Communicators of `size` ranks that are threads of this process, for tests: give each thread one.
///
/// Sums and orders are those of the other CPU communicators.
/// @throws ArgumentError  a size below 1.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size);

}  // namespace torch_accelerated
