// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace torch_accelerated {

/// Seeds LibTorch's default generators (CPU and every CUDA device) for a scope, and gives them back
/// as they were at its end. The library seeds them in no other way: a run on several ranks or
/// shards holds one.
class SeedScope {
 public:
  explicit SeedScope(std::uint64_t seed);
  ~SeedScope();
  SeedScope(const SeedScope&) = delete;
  SeedScope& operator=(const SeedScope&) = delete;

  /// Seeds the generators again, within the scope.
  void reseed(std::uint64_t seed);

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};

}  // namespace torch_accelerated
