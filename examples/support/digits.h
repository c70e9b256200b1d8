// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace examples {

/// Images of digits kept as bytes; a batch has "data" (rows, 784) float in [0, 1] and "target"
/// (rows) int64.
class DigitDataset {
 public:
  /// @param pixels  (images, 28 * 28) uint8
  /// @param labels  (images) uint8
  DigitDataset(torch::Tensor pixels, const torch::Tensor& labels)
      : pixels_(std::move(pixels)), labels_(labels.to(torch::kInt64)) {}

  std::int64_t size() const { return pixels_.size(0); }

  torch_accelerated::Batch get_batch(std::span<const std::int64_t> indices,
                                     const torch_accelerated::SampleContext& context) const;

 private:
  torch::Tensor pixels_;
  torch::Tensor labels_;
};

/// What an example trains on, evaluates after each epoch, and is tested on at the end.
struct DigitSplits {
  torch_accelerated::Dataset train;
  torch_accelerated::Dataset eval;
  torch_accelerated::Dataset test;
  std::string source;  ///< for people: where the images come from
};

/// The MNIST files in `directory`, plain or gzip: the training pair as 50,000/5,000/5,000, or the
/// test pair alone as 8,000/1,000/1,000. Without a directory, 70,000 digits rendered from `seed`.
DigitSplits load_digits(const std::optional<std::filesystem::path>& directory, std::uint64_t seed);

}  // namespace examples
