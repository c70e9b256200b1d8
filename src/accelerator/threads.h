// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated {

/// Shares the cores that this process may use out between the ranks of its host, unless the user
/// has set a number of threads: by OMP_NUM_THREADS, MKL_NUM_THREADS or at::set_num_threads.
void share_out_threads(int local_size);

/// How many cores a rank uses where its process may run on `allowed` of the host's `all` and
/// `local_size` ranks share the host: a launcher that binds ranks gives each its own. At least 1.
int cores_of_rank(int allowed, int all, int local_size);

/// Whether a rank's share of the cores is larger than LibTorch's number of threads.
bool has_spare_core(int local_size);

}  // namespace torch_accelerated
