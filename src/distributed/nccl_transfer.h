// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "distributed/nccl_session.h"
#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated::detail {

/// What NCCL sums the numbers of `tensor` as; nothing for a dtype that it doesn't sum, which of
/// those that `check_summed` lets pass is int16 alone.
std::optional<NcclType> summed_type(const torch::Tensor& tensor);

/// The flat `tensor` in `parts` views whose lengths differ by at most one.
std::vector<torch::Tensor> cut(const torch::Tensor& tensor, int parts);

/// The sum of one tensor of each rank in the order of SumOrder::kPairwise; that of halves in
/// float32.
torch::Tensor add_pairwise(std::span<const torch::Tensor> tensors);

/// Adds the calls that bring sent[r] to rank r and what rank r sends here to received[r]; this
/// rank's own is copied on the current stream. In step s each rank sends to the s-th after it and
/// receives from the s-th before it, so that no rank has to serve all others at once; tensors
/// without elements are not sent.
/// @param sent, received  one for each rank, contiguous, kept alive by the calls.
void add_exchange(std::vector<NcclSession::Call>& calls, int rank, NcclStream stream,
                  std::span<const torch::Tensor> sent, std::span<const torch::Tensor> received);

}  // namespace torch_accelerated::detail
