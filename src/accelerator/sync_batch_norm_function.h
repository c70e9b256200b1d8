// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "torch_accelerated/core/torch_forward.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated::detail {

/// A batch (N, C, ...) normalised by the statistics of all ranks' rows, and those statistics.
struct NormalisedBatch {
  torch::Tensor rows;               // (N, C, ...), mean 0 and variance 1 over all ranks
  torch::Tensor inverse_deviation;  // (C), 1 / sqrt(biased variance + eps), dtype of `rows`
  torch::Tensor mean;               // (C), float64
  torch::Tensor unbiased_variance;  // (C), float64
  torch::Tensor count;              // scalar, float64: values per channel over all ranks
};

/// Collective; nothing of it is recorded by autograd.
/// @param rows_count  whether this rank's rows are in the statistics.
/// @throws ArgumentError       fewer than two values per channel over all ranks, on every rank.
/// @throws CommunicationError  as the communicator, and where ranks bring different channels.
NormalisedBatch normalise_over_ranks(const torch::Tensor& input, double eps,
                                     Communicator& communicator, bool rows_count);

/// batch.rows * weight + bias, with a collective backward towards `input`.
/// @param weight, bias  (C), or both undefined.
torch::Tensor scale_normalised(const torch::Tensor& input, const torch::Tensor& weight,
                               const torch::Tensor& bias, const NormalisedBatch& batch,
                               std::shared_ptr<Communicator> communicator, bool rows_count);

}  // namespace torch_accelerated::detail
