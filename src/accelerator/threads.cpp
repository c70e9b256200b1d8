// SPDX-License-Identifier: Apache-2.0
#include "accelerator/threads.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace torch_accelerated {
namespace {

// Cores that this process may run on; a launcher that binds ranks gives each its own.
int allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(CPU_COUNT(&set), 1) : 1;
}

int own_cores(int local_size) {
  return cores_of_rank(allowed_cores(), static_cast<int>(std::thread::hardware_concurrency()),
                       local_size);
}

}  // namespace

int cores_of_rank(int allowed, int all, int local_size) {
  return allowed < all ? allowed : std::max(1, allowed / local_size);
}

bool has_spare_core(int local_size) { return own_cores(local_size) > at::get_num_threads(); }

void share_out_threads(int local_size) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr || std::getenv("MKL_NUM_THREADS") != nullptr) {
    return;
  }
  // LibTorch starts with a thread for each core: another number is the user's.
  if (at::get_num_threads() < allowed_cores()) return;
  at::set_num_threads(own_cores(local_size));
}

}  // namespace torch_accelerated
