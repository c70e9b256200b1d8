// SPDX-License-Identifier: Apache-2.0
// What the ranks of one host may have of its devices and cores. Devices are compared by name, so no
// GPU is needed.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <thread>

#include "accelerator/device.h"
#include "support/tiny.h"

namespace tests::placement_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

c10::Device gpu(int index) { return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)}; }

TEST(Devices, OneGpuForTwoRanksIsRefusedOnAllWithBoth) {
  const auto world = ta::make_world();
  if (world.size() == 1) return;
  const int last = world.size() - 1;
  std::string text;
  try {
    ta::check_devices(gpu(world.rank() == last ? 0 : world.rank()), world);
  } catch (const ta::ArgumentError& error) {
    EXPECT_TRUE(error.is_on_all_ranks());
    text = error.what();
  }
  EXPECT_THAT(text, AllOf(HasSubstr("ranks 0 and " + std::to_string(last) + " both have cuda:0"),
                          HasSubstr("on host " + world.host), HasSubstr("share_devices")));
}

TEST(Devices, AGpuForEachRankIsFine) {
  const auto world = ta::make_world();
  EXPECT_NO_THROW(ta::check_devices(gpu(world.rank()), world));
}

// One number on two hosts is two GPUs, and so is one where a launcher shows each rank its own.
TEST(Devices, OneNumberIsTwoGpusWhereItMeansOthers) {
  auto world = ta::make_world();
  world.host += std::to_string(world.rank());
  EXPECT_NO_THROW(ta::check_devices(gpu(0), world));
}

// This program has initialised MPI: how many threads it has is its own affair.
TEST(Threads, OfAProgramsOwnRanksStayAsTheyAre) {
  const int before = at::get_num_threads();
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(cores);
  const char* given = std::getenv("OMP_NUM_THREADS");
  const std::string saved = given == nullptr ? "" : given;
  ::unsetenv("OMP_NUM_THREADS");
  {
    const ta::Accelerator ranks;
  }
  EXPECT_EQ(at::get_num_threads(), cores);
  if (given != nullptr) ::setenv("OMP_NUM_THREADS", saved.c_str(), 1);
  at::set_num_threads(before);
}

}  // namespace
}  // namespace tests::placement_ranks_test
