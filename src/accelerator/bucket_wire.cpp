// SPDX-License-Identifier: Apache-2.0
#include "accelerator/bucket_wire.h"

namespace torch_accelerated {

BucketWire::BucketWire(BufferPool& pool, std::span<torch::Tensor> buckets,
                       std::optional<torch::Dtype> dtype)
    : pool_(pool), buckets_(buckets), copies_(buckets.size()) {
  if (!dtype) return;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i].scalar_type() != torch::kFloat32) continue;
    const auto like = torch::empty({0}, buckets[i].options().dtype(dtype));
    copies_[i] = pool.take(buckets[i].numel(), like);
  }
}

BucketWire::~BucketWire() {
  for (auto& copy : copies_) {
    if (copy.defined()) pool_.give_back(std::move(copy));
  }
}

std::span<torch::Tensor> BucketWire::pack(std::size_t bucket) {
  if (!copies_[bucket].defined()) return buckets_.subspan(bucket, 1);
  const torch::NoGradGuard no_grad;
  copies_[bucket].copy_(buckets_[bucket]);
  return std::span(copies_).subspan(bucket, 1);
}

void BucketWire::unpack() {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (copies_[i].defined()) buckets_[i].copy_(copies_[i]);
  }
}

}  // namespace torch_accelerated
