// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace torch_accelerated {

/// How losses are scaled in fp16, whose smallest gradients would be 0 otherwise. The scale falls
/// when gradients overflow, which skips the update on all ranks, and grows after many that didn't.
///
/// @par Source  Micikevicius et al. 2018 (arXiv:1710.03740), section 3.2.
struct LossScaling {
  double initial_scale = 65536;
  double growth_factor = 2;             ///< 1 keeps the scale where it is
  double backoff_factor = 0.5;          ///< after an update whose gradients overflowed
  std::int64_t growth_interval = 2000;  ///< updates in a row without overflow, after which it grows
  double minimum_scale = 1;
  std::int64_t skips_at_minimum = 20;  ///< so many in a row at the minimum are a NumericError
};

}  // namespace torch_accelerated
