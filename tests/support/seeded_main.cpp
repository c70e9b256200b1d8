// SPDX-License-Identifier: Apache-2.0
//
// A main() for tests that see torch. LibTorch's generator starts at another number in each process;
// here each test starts it at TORCH_ACCELERATED_SEED (0 where it isn't set) plus the number of the
// repetition, from 0. So a test that fails fails again with that sum for its seed, and
// --gtest_repeat tries other numbers.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <cstdlib>

namespace {

class SeedsEachTest : public testing::EmptyTestEventListener {
 private:
  void OnTestIterationStart(const testing::UnitTest&, int iteration) override {
    const char* text = std::getenv("TORCH_ACCELERATED_SEED");
    seed_ = (text == nullptr ? 0 : std::strtoull(text, nullptr, 10)) +
            static_cast<std::uint64_t>(iteration);
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
