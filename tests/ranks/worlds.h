// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <mpi.h>

#include "torch_accelerated/distributed/mpi.h"

namespace tests {

namespace ta = torch_accelerated;

/// Tests that run over the shared window and over MPI's messages alone.
class Worlds : public testing::TestWithParam<bool> {
 protected:
  static ta::World make_world() {
    auto world = ta::make_world(MPI_COMM_WORLD, {.shared_window = GetParam()});
    for (auto* communicator : {world.gradients.get(), world.control.get()}) {
      communicator->set_timeout(std::chrono::seconds(60));
    }
    return world;
  }
};

inline std::string name_of(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Window" : "Messages";
}

}  // namespace tests
