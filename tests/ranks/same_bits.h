// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include "support/tiny.h"

namespace tests {

/// All ranks have the same finite parameters, bit for bit. Collective.
inline void expect_same_bits_everywhere(ta::Accelerator& ranks, const torch::nn::Sequential& net) {
  for (const auto& parameter : net->parameters()) {
    const auto mine = parameter.detach().unsqueeze(0);
    const auto all = ranks.gather(mine);
    for (std::int64_t rank = 0; rank < ranks.world_size(); ++rank) {
      EXPECT_TRUE(torch::equal(all[rank], mine[0]));
    }
    EXPECT_TRUE(torch::isfinite(mine).all().item<bool>());
  }
}

}  // namespace tests
