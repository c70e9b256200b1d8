// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "accelerator/buffer_pool.h"

namespace torch_accelerated {

/// The gradients of some parameters as views of a few flat tensors, which ranks reduce without
/// copying.
///
/// The views stand where autograd would put gradients of its own, from `attach` on, and keep
/// standing there through `zero_grad` in place; where `zero_grad` has removed them, `attach` puts
/// them back.
class GradientBuckets {
 public:
  /// Collective.
  /// @param pool          outlives the buckets, which give their memory back to it.
  /// @param parameters    in the same order on all ranks, each once.
  /// @param bucket_bytes  at most, but for a parameter that is larger by itself.
  GradientBuckets(BufferPool& pool, std::vector<torch::Tensor> parameters,
                  std::int64_t bucket_bytes);

  /// Gives each parameter whose gradient is a view a gradient of its own.
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  bool is_of(std::span<const torch::Tensor> parameters) const;

  /// Before the first backward of a window: every gradient is a view, and zero.
  void attach();

  /// After the last: gradients that have come about beside the views are taken into them.
  void collect();

  /// Takes the gradient of parameter `index` into its view, if it has come about beside it.
  void collect(std::size_t index);

  /// Whether a gradient has been added to that of parameter `index` since `attach`.
  bool has_gradient(std::size_t index) const;

  /// Where a recorded window has come to: each gradient is its view, with a gradient in those of
  /// `found`.
  void note_replay(const std::vector<bool>& found);

  /// Leaves parameter `index` without a gradient, as a backward that never reaches it does.
  void drop(std::size_t index);

  std::size_t parameters() const noexcept { return places_.size(); }

  /// The memory does not go back to the pool.
  void keep() noexcept { flats_.clear(); }

  /// The bucket of each parameter.
  std::vector<std::size_t> bucket_of() const;
  std::span<torch::Tensor> flats() noexcept { return flats_; }

 private:
  struct Place {
    torch::Tensor parameter;
    torch::Tensor view;
    std::size_t bucket = 0;
    std::int64_t version = 0;  // of the view, at `attach`
    bool found = false;        // a gradient that came about beside the view
  };

  void add_bucket(std::span<Place> places, std::span<const std::int64_t> offsets,
                  std::int64_t numel);

  BufferPool& pool_;
  std::vector<Place> places_;
  std::vector<torch::Tensor> flats_;
};

}  // namespace torch_accelerated
