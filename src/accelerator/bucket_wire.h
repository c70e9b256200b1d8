// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <optional>
#include <span>
#include <vector>

#include "accelerator/buffer_pool.h"

namespace torch_accelerated {

/// Buckets as they travel between ranks: themselves, or as copies of fewer bits.
class BucketWire {
 public:
  /// Collective, as BufferPool::take.
  /// @param pool     outlives the wire, which gives its memory back to it.
  /// @param buckets  of which those in float32 are compressed; they outlive it too.
  /// @param dtype    what they are compressed to; nothing: they travel as they are.
  BucketWire(BufferPool& pool, std::span<torch::Tensor> buckets, std::optional<torch::Dtype> dtype);
  ~BucketWire();
  BucketWire(const BucketWire&) = delete;
  BucketWire& operator=(const BucketWire&) = delete;

  /// What is to be added up over ranks for a bucket, with the numbers that the bucket has now.
  std::span<torch::Tensor> pack(std::size_t bucket);

  /// Takes the sums into the buckets.
  void unpack();

  /// The memory does not go back to the pool.
  void keep() noexcept { copies_.clear(); }

 private:
  BufferPool& pool_;
  std::span<torch::Tensor> buckets_;
  std::vector<torch::Tensor> copies_;  // undefined where a bucket travels as it is
};

}  // namespace torch_accelerated
