// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// `inner` with a thread of its own, in which reductions that have been started go on while the
/// caller computes. All other operations wait until those have ended, and run in the caller's.
///
/// Pays where a core is left for it.
/// @param inner  one that may be called from another thread than the one that made it.
std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Communicator> inner);

}  // namespace torch_accelerated
