// SPDX-License-Identifier: Apache-2.0
#include "distributed/call.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {

static_assert(std::is_trivially_copyable_v<Call>, "it is sent as bytes");

Call make_call(const char* name, std::int64_t number, std::int64_t bytes) {
  Call call{};
  std::strncpy(call.name, name, sizeof(call.name) - 1);
  call.number = number;
  call.bytes = bytes;
  std::uint64_t words[2];
  std::memcpy(words, call.name, sizeof(words));
  agree_on(call, words[0]);
  agree_on(call, words[1]);
  agree_on(call, static_cast<std::uint64_t>(number));
  return call;
}

void agree_on(Call& call, std::uint64_t value) {
  // One round of a multiplicative hash: values that differ meet by chance alone.
  constexpr std::uint64_t kOddNumber = 0x9E3779B97F4A7C15;
  call.agreement = (call.agreement ^ value) * kOddNumber;
  call.agreement ^= call.agreement >> 29;
}

void agree_on_root(Call& call, int root) {
  call.root = root + 1;
  agree_on(call, static_cast<std::uint64_t>(call.root));
}

void agree_on_order(Call& call, bool is_pairwise) {
  call.is_pairwise = is_pairwise;
  agree_on(call, is_pairwise ? 1 : 2);
}

void agree_on(Call& call, const torch::Tensor& tensor, int from_dim) {
  const auto dtype = static_cast<std::int8_t>(tensor.scalar_type());
  const auto sizes = tensor.sizes();
  if (call.tensors++ == 0) {
    call.dtype = dtype;
    call.dims = static_cast<std::int8_t>(sizes.size());
    const auto told = std::min<std::size_t>(sizes.size(), Call::kMaxDims);
    std::copy_n(sizes.begin(), told, call.sizes);
  }
  agree_on(call, static_cast<std::uint64_t>(dtype) << 8 | sizes.size());
  for (auto dim = static_cast<std::size_t>(from_dim); dim < sizes.size(); ++dim) {
    agree_on(call, static_cast<std::uint64_t>(sizes[dim]));
  }
}

std::string to_text(const Call& call) {
  std::string what;
  if (call.root > 0) what += concat("from rank ", call.root - 1, ", ");
  if (call.is_pairwise) what += "in pairs, ";
  if (call.tensors > 0) {
    const auto told = static_cast<std::size_t>(std::min<int>(call.dims, Call::kMaxDims));
    what += concat(static_cast<torch::ScalarType>(call.dtype), " ",
                   torch::IntArrayRef(call.sizes, told), ", ");
    if (call.tensors > 1) what += concat("the first of ", call.tensors, " tensors, ");
  }
  return concat(call.name, " number ", call.number, " (", what, call.bytes, " bytes)");
}

void check_agreement(std::span<const Call> calls, int rank) {
  for (std::size_t other = 1; other < calls.size(); ++other) {
    if (calls[other].agreement == calls[0].agreement) continue;
    CommunicationError error(concat("the ranks have parted: rank 0 called ", to_text(calls[0]),
                                    ", rank ", other, " called ", to_text(calls[other]),
                                    "; every rank has to call the same operations in the same "
                                    "order with the same shapes and dtypes"),
                             ExitCode::kMismatch);
    error.set_rank(rank);
    error.set_on_all_ranks();
    throw error;
  }
}

}  // namespace torch_accelerated::detail
