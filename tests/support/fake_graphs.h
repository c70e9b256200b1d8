// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "accelerator/device_graph.h"

namespace tests {

/// Graphs of what is asked of the CPU, as CUDA's are of a GPU: operations on tensors are recorded
/// below autograd with the tensors and numbers that they have then, nothing is done meanwhile, a
/// replay does them again into the same memory, and what would have the host wait for a GPU throws.
/// What the host computes or reads by itself is done only while recording.
///
/// While one is alive, `capture_graph` on the CPU has these, in the place of the library's own.
class FakeGraphs {
 public:
  FakeGraphs();
  ~FakeGraphs();
  FakeGraphs(const FakeGraphs&) = delete;
  FakeGraphs& operator=(const FakeGraphs&) = delete;

  int recorded() const noexcept;  ///< graphs that were made
  int replayed() const noexcept;  ///< of all of them

  /// While one is being recorded in this thread: does `work` now and at each replay, as a call of
  /// NCCL is recorded. Else does it.
  static void call(const std::function<void()>& work);
};

}  // namespace tests
