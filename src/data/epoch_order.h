// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "torch_accelerated/data/permutation.h"

namespace torch_accelerated {

/// The order in which an epoch visits the samples: a pure function of (samples, seed, epoch). Keeps
/// the last epoch's keys, so each thread has one of its own.
class EpochOrder {
 public:
  EpochOrder(std::int64_t samples, std::uint64_t seed, bool shuffle)
      : samples_(samples), seed_(seed), shuffle_(shuffle) {}

  /// The samples at the places [first, first + samples.size()).
  void read(std::int64_t epoch, std::int64_t first, std::span<std::int64_t> samples);

 private:
  std::int64_t samples_;
  std::uint64_t seed_;
  bool shuffle_;
  std::int64_t epoch_ = -1;  // of `permutation_`
  std::optional<KeyedPermutation> permutation_;
};

}  // namespace torch_accelerated
