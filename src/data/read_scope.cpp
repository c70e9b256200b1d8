// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include <torch/torch.h>

#include "torch_accelerated/data/dataset.h"

namespace torch_accelerated::detail {
namespace {

// OpenMP's setting for the calling thread alone. at::set_num_threads also changes what every thread
// that starts later gets, which is not ours to change. Looked up, since the runtime has to be the
// one that LibTorch has loaded; without OpenMP there is nothing to set.
void set_threads_of_this_thread(int threads) {
  static const auto set =
      reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(threads);
}

}  // namespace

ReadScope::ReadScope()
    : intra_op_threads_(at::get_num_threads()), records_gradients_(at::GradMode::is_enabled()) {
  if (intra_op_threads_ > 1) set_threads_of_this_thread(1);
  at::GradMode::set_enabled(false);
}

ReadScope::~ReadScope() {
  at::GradMode::set_enabled(records_gradients_);
  if (intra_op_threads_ > 1) set_threads_of_this_thread(intra_op_threads_);
}

}  // namespace torch_accelerated::detail
