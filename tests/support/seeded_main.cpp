// SPDX-License-Identifier: Apache-2.0
//
// A main() for tests that see torch. LibTorch's generator starts at another number in each process;
// here each test starts it at TORCH_ACCELERATED_SEED (0 where it isn't set) plus the number of the
// repetition: a test that fails fails again, and --gtest_repeat tries other numbers.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

class SeedsEachTest : public testing::EmptyTestEventListener {
 private:
  void OnTestIterationStart(const testing::UnitTest&, int iteration) override {
    const char* text = std::getenv("TORCH_ACCELERATED_SEED");
    seed_ = (text == nullptr ? 0 : std::stoull(text)) + static_cast<std::uint64_t>(iteration);
  }
  void OnTestStart(const testing::TestInfo&) override { torch::manual_seed(seed_); }

  std::uint64_t seed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new SeedsEachTest);
  return RUN_ALL_TESTS();
}
