// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "accelerator/bucket_wire.h"
#include "accelerator/gradient_buckets.h"
#include "accelerator/gradient_hooks.h"
#include "accelerator/gradient_window.h"
#include "accelerator/ready_order.h"
#include "core/pairwise_sum.h"
#include "torch_accelerated/accelerator/accelerator.h"

namespace torch_accelerated {

/// What a rank says beside its gradients, and hears of all others.
struct RankStatus {
  unsigned triggers = 0;      ///< bits of Trigger
  bool not_finite = false;    ///< its loss, or the weight of it
  bool has_gradient = false;  ///< whether it back-propagated anything
};

/// Adds up the gradients of one optimizer's parameters over ranks, and right behind them one word:
/// the loss as a fraction, each rank's status, and how many ranks have a gradient for each
/// parameter. Everything that the ranks decide in an update stands in it.
class GradientReducer {
 public:
  /// What all ranks have in common after a reduction.
  struct Outcome {
    WindowSums sums;
    std::vector<RankStatus> ranks;
  };

  using Order = std::vector<std::size_t>;

  /// @param name_of  a parameter's name, for messages.
  /// @param order    what `order()` was in the run that goes on; empty where none does.
  GradientReducer(std::vector<torch::Tensor> parameters, Communicator& communicator,
                  BufferPool& pool, const AcceleratorOptions& options,
                  std::function<std::string(const torch::Tensor&)> name_of, Order order);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  bool is_of(std::span<const torch::Tensor> parameters) const;

  /// In which the parameters lie in the buckets, by their index; empty before the ranks have agreed
  /// on one, and where they don't.
  const Order& order() const noexcept { return order_; }

  void begin_window();

  /// Before the window's last backward: buckets are reduced as they become ready in it, where that
  /// was asked for.
  void begin_last_backward();

  /// After each shard of a deterministic run: its gradients join a tree.
  void end_shard();

  /// Collective. The gradients are the sums over ranks after it.
  /// @throws ArgumentError  on all ranks: a gradient that only some ranks have, where that is an
  ///                        error.
  Outcome reduce(const WindowSums& mine, const RankStatus& status);

  /// The same without waiting for a device, but for a parameter that this rank has no gradient of.
  /// @param sums    (2), float64, on the device: the window's loss and weight.
  /// @param status  (), float64, on the device: this rank's, packed.
  /// @return the word on the device, and what waits for it there.
  std::pair<torch::Tensor, std::unique_ptr<Pending>> reduce_late(const torch::Tensor& sums,
                                                                 const torch::Tensor& status);

  /// A status as one number.
  static double packed(const RankStatus& status);

  /// Which parameters have a gradient in the window in progress, and the same again where what gave
  /// them theirs was recorded and has been replayed.
  std::vector<bool> has_gradient() const;
  void note_replay(const std::vector<bool>& has_gradient) { buckets_->note_replay(has_gradient); }

  /// Whether this rank had no gradient for some parameter in the last reduction.
  bool lacked_any() const noexcept { return lacked_any_; }

  /// What a word says that comes from so many ranks.
  static Outcome read_word(std::span<const double> word, int ranks);

 private:
  using Flats = std::vector<torch::Tensor>;
  struct AddFlats {
    void operator()(Flats& left, const Flats& right) const {
      for (std::size_t i = 0; i < left.size(); ++i) left[i].add_(right[i]);
    }
  };

  void make_buckets();
  void note_gradient(std::size_t index);
  void start(std::size_t bucket);
  std::unique_ptr<Pending> finish();
  void agree_on_order();
  bool has_all_gradients() const;
  void write_word(const WindowSums& mine, const RankStatus& status);
  void write_word(const torch::Tensor& sums, const torch::Tensor& status);
  void drop_unused(std::span<const double> word);
  void check_unused(std::span<const double> word) const;

  Communicator& communicator_;
  BufferPool& pool_;
  UnusedParameters unused_;
  std::int64_t bucket_bytes_;
  std::optional<torch::Dtype> compressed_;
  bool overlaps_;
  std::function<std::string(const torch::Tensor&)> name_of_;
  std::vector<torch::Tensor> asked_;       // as the optimizer has them
  std::vector<torch::Tensor> parameters_;  // in the order of the buckets
  std::optional<GradientBuckets> buckets_;
  std::optional<BucketWire> wire_;  // after the buckets that it carries
  torch::Tensor word_;              // (2 + ranks + parameters), float64, with the gradients
  torch::Tensor host_word_;         // likewise, on the host

  PairwiseSum<Flats, AddFlats> shards_;
  bool by_tree_ = false;

  // Only where reductions overlap with backward.
  std::optional<ReadyOrder> ready_;
  std::optional<GradientHooks> hooks_;
  std::vector<std::unique_ptr<Pending>> pending_;
  bool armed_ = false;  // in a window's last backward
  bool lacked_any_ = false;
  Order order_;  // agreed on
};

}  // namespace torch_accelerated
