// SPDX-License-Identifier: Apache-2.0
#include "accelerator/threads.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tests::threads_test {
namespace {

namespace ta = torch_accelerated;

/// An environment that says nothing of threads but `variable`, and LibTorch's number of threads as
/// it was, at the end of the scope.
class ThreadSetting {
 public:
  explicit ThreadSetting(const char* variable = nullptr) : threads_(at::get_num_threads()) {
    for (const char* name : kNames) {
      const char* found = std::getenv(name);
      saved_.push_back(found == nullptr ? std::nullopt : std::optional<std::string>(found));
      ::unsetenv(name);
    }
    if (variable != nullptr) ::setenv(variable, "5", 1);
  }
  ~ThreadSetting() {
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      if (saved_[i]) {
        ::setenv(kNames[i], saved_[i]->c_str(), 1);
      } else {
        ::unsetenv(kNames[i]);
      }
    }
    at::set_num_threads(threads_);
  }
  ThreadSetting(const ThreadSetting&) = delete;
  ThreadSetting& operator=(const ThreadSetting&) = delete;

 private:
  static constexpr const char* kNames[] = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"};
  int threads_;
  std::vector<std::optional<std::string>> saved_;
};

// Those of the host, and those that this process may run on.
int all_cores() { return static_cast<int>(std::thread::hardware_concurrency()); }

int allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

struct Shares {
  int allowed, all, ranks, expected;
};

// A launcher that binds ranks gives each its own cores; else those of the host are shared out.
TEST(Threads, CoresOfAHostAreSharedOutBetweenItsRanks) {
  for (const auto& [allowed, all, ranks, expected] : std::vector<Shares>{{8, 8, 1, 8},
                                                                         {8, 8, 4, 2},
                                                                         {8, 8, 3, 2},
                                                                         {2, 2, 4, 1},
                                                                         {1, 1, 2, 1},
                                                                         {2, 8, 4, 2},
                                                                         {1, 8, 4, 1},
                                                                         {6, 8, 1, 6}}) {
    EXPECT_EQ(ta::cores_of_rank(allowed, all, ranks), expected) << allowed << ' ' << ranks;
  }
}

TEST(Threads, AreARanksShareOfTheCoresWhereNobodyHasSetThem) {
  const ThreadSetting setting;
  for (const int ranks : {1, 2, 1'000'000}) {
    at::set_num_threads(all_cores());
    ta::share_out_threads(ranks);
    EXPECT_EQ(at::get_num_threads(), ta::cores_of_rank(allowed_cores(), all_cores(), ranks));
    EXPECT_FALSE(ta::has_spare_core(ranks)) << ranks;
  }
}

TEST(Threads, StayAsTheEnvironmentOrTheProgramHasSetThem) {
  for (const char* variable : {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}) {
    const ThreadSetting setting(variable);
    at::set_num_threads(all_cores());
    ta::share_out_threads(1'000'000);
    EXPECT_EQ(at::get_num_threads(), all_cores()) << variable;
  }
  const ThreadSetting setting;
  at::set_num_threads(1);  // fewer than there are, where there are two
  ta::share_out_threads(1);
  EXPECT_EQ(at::get_num_threads(), 1);
  EXPECT_EQ(ta::has_spare_core(1), ta::cores_of_rank(allowed_cores(), all_cores(), 1) > 1);
}

}  // namespace
}  // namespace tests::threads_test
