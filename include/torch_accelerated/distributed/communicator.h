// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// Moves tensors and bytes between the ranks of a run.
///
/// All operations but `rank` and `size` are collective: every rank calls them in the same order,
/// from one thread at a time. An implementer allows tensors of any shape, also without elements.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;

  /// Replaces each of `tensors` (dense, contiguous, same shapes on all ranks) by its sum over
  /// ranks.
  virtual void all_reduce(std::span<torch::Tensor> tensors) = 0;

  /// The `tensor` of each rank, in rank order; first dimensions may differ.
  virtual std::vector<torch::Tensor> all_gather(const torch::Tensor& tensor) = 0;

  /// Replaces `tensor` by that of rank `root`.
  virtual void broadcast(torch::Tensor& tensor, int root) = 0;

  /// Replaces `bytes` by those of rank `root`; lengths may differ.
  virtual void broadcast(std::string& bytes, int root) = 0;

  /// Returns when every rank has called it.
  virtual void barrier() = 0;
};

/// The communicator of a world of one process.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace torch_accelerated
