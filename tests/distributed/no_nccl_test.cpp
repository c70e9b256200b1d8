// SPDX-License-Identifier: Apache-2.0
// For a build without NCCL.
#include <gmock/gmock.h>

#include "distributed/nccl_communicator.h"
#include "support/tiny.h"

namespace tests {
namespace {

TEST(NoNccl, ACommunicatorIsRefusedWithTheReason) {
  EXPECT_FALSE(ta::has_nccl());
  const auto control = ta::make_self_communicator();
  EXPECT_THAT(message_of<ta::StateError>(
                  [&] { ta::make_nccl_communicator(*control, c10::Device(c10::kCUDA, 0)); }),
              testing::HasSubstr("without NCCL"));
}

}  // namespace
}  // namespace tests
