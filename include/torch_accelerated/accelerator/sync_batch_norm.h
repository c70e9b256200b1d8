// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/pimpl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "torch_accelerated/core/model.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// What the SyncBatchNorm layers of a run share. Read in each forward; all ranks run the same
/// layers in the same order.
struct SyncBatchNormGroup {
  /// Over the ranks whose rows make one batch, and used by these layers alone; null: one rank.
  std::shared_ptr<Communicator> communicator;

  /// Whether this rank's rows belong to the batch. A rank without rows sets false and runs one row
  /// borrowed from the batch, so that it meets the others in every layer: that row is normalised as
  /// they are, is in no statistics, and no gradient goes through it, whatever its loss.
  bool rows_count = true;
};

/// BatchNorm whose statistics are those of the rows of all ranks, in forward and in backward.
///
/// Takes (N, C, ...) with at least two values for each of the C channels over all ranks; a rank may
/// have any number of rows, also none. Options, parameters, buffers and their names are those of
/// torch::nn::BatchNorm1d, 2d and 3d, and so is what it does in eval mode, without a group or on
/// one rank: nothing is communicated then. In train mode forward and backward communicate once
/// each, from the thread that calls them. Sums over ranks are float64 and in rank order, so running
/// statistics have the same bits on all ranks. The gradients of `weight` and `bias` are of this
/// rank's rows alone, to be summed over ranks like those of any parameter. Without a group in train
/// mode of several ranks each normalises by itself: give the model to `Accelerator::prepare`.
///
/// @par Source  Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 1 and section 3; statistics of
///              parts joined as in Chan, Golub and LeVeque 1983,
///              doi:10.1080/00031305.1983.10483115.
class SyncBatchNormImpl : public torch::nn::Cloneable<SyncBatchNormImpl> {
 public:
  explicit SyncBatchNormImpl(const torch::nn::BatchNormOptions& options);

  /// A layer in the place of `norm`: its options and mode, and its tensors themselves, so that an
  /// optimizer over them trains on.
  template <std::size_t D, class Derived>
  explicit SyncBatchNormImpl(const torch::nn::BatchNormImplBase<D, Derived>& norm)
      : SyncBatchNormImpl(norm.options, {norm.weight, norm.bias, norm.running_mean,
                                         norm.running_var, norm.num_batches_tracked}) {
    train(norm.is_training());
  }

  /// @param input  (N, C, ...), floating point; halves are normalised in float32.
  /// @throws ArgumentError       another shape or dtype (nothing has been sent), or fewer than two
  ///                             values per channel over all ranks (on every rank).
  /// @throws CommunicationError  a rank failed, or ran another layer.
  ///
  /// Backward throws CommunicationError likewise, and StateError where a graph of it is asked for:
  /// there is no second derivative.
  torch::Tensor forward(const torch::Tensor& input);

  /// `connect_sync_batch_norm` does this for a whole model; null ends the synchronisation.
  void set_group(std::shared_ptr<SyncBatchNormGroup> group) { group_ = std::move(group); }
  const std::shared_ptr<SyncBatchNormGroup>& group() const noexcept { return group_; }

  void reset() override;
  void reset_running_stats();
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  torch::nn::BatchNormOptions options;
  torch::Tensor weight;               ///< (C); undefined without `affine`
  torch::Tensor bias;                 ///< (C); undefined without `affine`
  torch::Tensor running_mean;         ///< (C); undefined without `track_running_stats`
  torch::Tensor running_var;          ///< (C), unbiased; undefined without `track_running_stats`
  torch::Tensor num_batches_tracked;  ///< int64 scalar; undefined without `track_running_stats`

 private:
  struct Tensors {
    torch::Tensor weight, bias, running_mean, running_var, num_batches_tracked;
  };
  SyncBatchNormImpl(const torch::nn::BatchNormOptions& norm_options, const Tensors& tensors);

  void register_tensors(const Tensors& tensors);
  void check_input(const torch::Tensor& input) const;
  double count_batch();
  torch::Tensor forward_alone(const torch::Tensor& input);
  torch::Tensor forward_together(const torch::Tensor& input);

  std::shared_ptr<SyncBatchNormGroup> group_;
};

TORCH_MODULE(SyncBatchNorm);

/// Gives `group` to every SyncBatchNorm in `module`, itself included; the Accelerator does it.
/// @return how many there are.
std::int64_t connect_sync_batch_norm(torch::nn::Module& module,
                                     const std::shared_ptr<SyncBatchNormGroup>& group);

/// Puts a SyncBatchNorm in the place of every BatchNorm1d, 2d and 3d inside a Sequential, however
/// deep in `module`.
///
/// In place: `module` and all other modules stay who they are, and the new layers have the old
/// ones' names, options, mode, parameters and buffers, so that optimizers, weights and checkpoints
/// still fit. Call it before the model is prepared or trained. Who still holds an old layer
/// shares its tensors but not the model's forward.
/// @return how many layers are new; 0 where all are SyncBatchNorms already.
/// @throws ArgumentError  BatchNorms that aren't elements of a Sequential, such as typed members,
///                        which C++ can't replace, or that are of a derived class; names them all.
std::int64_t convert_sync_batch_norm(torch::nn::Module& module);
std::int64_t convert_sync_batch_norm(const Model& model);

}  // namespace torch_accelerated
