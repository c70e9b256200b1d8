// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank takes, for any number of them: none is needed here.
#include "accelerator/device.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "support/tiny.h"

namespace tests::device_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// CUDA_VISIBLE_DEVICES for a scope.
class VisibleDevices {
 public:
  explicit VisibleDevices(const char* value) {
    if (const char* found = std::getenv(kName)) saved_ = found;
    set(value);
  }
  ~VisibleDevices() { set(saved_ ? saved_->c_str() : nullptr); }
  VisibleDevices(const VisibleDevices&) = delete;
  VisibleDevices& operator=(const VisibleDevices&) = delete;

 private:
  static constexpr const char* kName = "CUDA_VISIBLE_DEVICES";
  static void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv(kName);
    } else {
      ::setenv(kName, value, 1);
    }
  }

  std::optional<std::string> saved_;
};

ta::World rank_of_host(int local_rank, int local_size) {
  ta::World world;
  world.local_rank = local_rank;
  world.local_size = local_size;
  world.host = "node7";
  return world;
}

std::string chosen(const std::string& name, int gpus, int local_rank = 0, int local_size = 1,
                   bool share = false) {
  return ta::resolve_device(name, rank_of_host(local_rank, local_size), share, gpus).str();
}

std::string refusal(const std::string& name, int gpus, int local_rank = 0, int local_size = 1) {
  return message_of<ta::ArgumentError>([&] { chosen(name, gpus, local_rank, local_size); });
}

TEST(Device, IsTheGpuOfTheLocalRank) {
  const VisibleDevices unset(nullptr);
  for (const char* name : {"", "cuda"}) {
    EXPECT_EQ(chosen(name, 1), "cuda:0") << name;
    EXPECT_EQ(chosen(name, 4), "cuda:0") << name;
    for (int rank = 0; rank < 3; ++rank) {
      const auto own = "cuda:" + std::to_string(rank);
      EXPECT_EQ(chosen(name, 3, rank, 3), own) << name;
      EXPECT_EQ(chosen(name, 4, rank, 3), own) << name;
    }
  }
}

// A launcher that shows each rank the one GPU that it is to take.
TEST(Device, IsTheOnlyOneThatARankMaySee) {
  const VisibleDevices one("3");
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(chosen("", 1, rank, 4), "cuda:0") << rank;
}

TEST(Device, MoreRanksThanGpusAreRefusedOnEachOfThem) {
  const VisibleDevices unset(nullptr);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_THAT(refusal("", 2, rank, 3), AllOf(HasSubstr("3 ranks on host node7 and 2 GPUs"),
                                               HasSubstr("share_devices"), HasSubstr("\"cpu\"")));
  }
  EXPECT_THAT(refusal("cuda", 1, 0, 2), HasSubstr("2 ranks on host node7 and 1 GPUs"));
  const VisibleDevices two("0,1");
  EXPECT_THAT(refusal("", 2, 0, 3), HasSubstr("3 ranks"));
}

TEST(Device, MoreRanksThanGpusShareThemInTurnWhereAsked) {
  const VisibleDevices unset(nullptr);
  for (int rank = 0; rank < 5; ++rank) {
    EXPECT_EQ(chosen("", 2, rank, 5, /*share=*/true), "cuda:" + std::to_string(rank % 2));
    EXPECT_EQ(chosen("cuda", 1, rank, 5, /*share=*/true), "cuda:0");
  }
}

TEST(Device, IsTheOneAskedForWhereItIsThere) {
  EXPECT_EQ(chosen("cuda:1", 2, 0, 4), "cuda:1");
  EXPECT_EQ(chosen("cpu", 2, 1, 2), "cpu");
  EXPECT_EQ(chosen("", 0, 1, 2), "cpu");
  EXPECT_THAT(refusal("cuda:2", 2),
              AllOf(HasSubstr("'cuda:2' is not there"), HasSubstr("sees 2 CUDA devices")));
  EXPECT_THAT(refusal("cuda", 0), HasSubstr("'cuda' is not there"));
  EXPECT_THAT(refusal("mps", 2), HasSubstr("'mps' is not supported"));
  EXPECT_THAT(refusal("gpu", 2), HasSubstr("unknown device 'gpu'"));
}

}  // namespace
}  // namespace tests::device_test
