// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated {

/// Refuses to be one of several copies of the same run.
/// @throws StateError  an environment of a launcher (mpirun, srun) that says more than one rank.
void check_single_process();

}  // namespace torch_accelerated
