// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated::detail {

/// What a rank calls, in a form that can be sent to the other ranks, compared and told.
struct Call {
  static constexpr int kMaxDims = 6;

  char name[16];                 // "all_reduce"
  std::int64_t number;           // of the communicator's operations, counting from 1
  std::int64_t bytes;            // that this rank brings
  std::uint64_t agreement;       // a hash of all that has to be the same on all ranks
  std::int64_t sizes[kMaxDims];  // of the first tensor
  std::int32_t root;             // 1 + the rank that broadcasts, 0 without one
  std::int32_t tensors;
  std::int8_t dtype;  // of the first tensor
  std::int8_t dims;   // of the first tensor; more than kMaxDims are not told
  bool is_pairwise;   // how it is summed
};

Call make_call(const char* name, std::int64_t number, std::int64_t bytes);

/// Makes the rank that broadcasts one of the things that have to agree.
void agree_on_root(Call& call, int root);

/// Makes the order of a sum one of the things that have to agree.
void agree_on_order(Call& call, bool is_pairwise);

/// Makes `value` one of the things that have to agree.
void agree_on(Call& call, std::uint64_t value);

/// Makes dtype and sizes of a tensor things that have to agree.
/// @param from_dim  the first dimension that counts: 1 where the numbers of rows may differ.
void agree_on(Call& call, const torch::Tensor& tensor, int from_dim = 0);

/// "all_reduce number 41 (float [3, 4], 48 bytes)".
std::string to_text(const Call& call);

/// @param calls  one of each rank.
/// @param rank   this one.
/// @throws CommunicationError  with the first two ranks that don't agree; every rank of `calls`
///                             finds the same.
void check_agreement(std::span<const Call> calls, int rank);

}  // namespace torch_accelerated::detail
