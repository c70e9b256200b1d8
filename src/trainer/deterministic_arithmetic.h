// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated {

/// Makes operations give the same bits each time for a scope: a fixed number of threads within an
/// operation, and deterministic algorithms. At its end both are as they were.
class DeterministicArithmetic {
 public:
  /// @param threads  >= 1.
  explicit DeterministicArithmetic(int threads);
  ~DeterministicArithmetic();
  DeterministicArithmetic(const DeterministicArithmetic&) = delete;
  DeterministicArithmetic& operator=(const DeterministicArithmetic&) = delete;

  /// What else the bits depend on: threads and the processor's kernels, such as "1 thread, AVX2".
  static std::string description(int threads);

 private:
  int threads_before_;
  bool deterministic_before_;
  bool warn_only_before_;
};

}  // namespace torch_accelerated
