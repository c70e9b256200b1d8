// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_transfer.h"

#include <torch/torch.h>

namespace torch_accelerated::detail {

std::optional<NcclType> summed_type(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat16:
      return NcclType::kFloat16;
    case torch::kBFloat16:
      return NcclType::kBfloat16;
    case torch::kFloat32:
      return NcclType::kFloat32;
    case torch::kFloat64:
      return NcclType::kFloat64;
    case torch::kUInt8:
      return NcclType::kUint8;
    case torch::kInt8:
      return NcclType::kInt8;
    case torch::kInt32:
      return NcclType::kInt32;
    case torch::kInt64:
      return NcclType::kInt64;
    default:
      return std::nullopt;
  }
}

std::vector<torch::Tensor> cut(const torch::Tensor& tensor, int parts) {
  std::vector<torch::Tensor> views;
  const auto length = tensor.numel();
  for (int part = 0; part < parts; ++part) {
    const auto begin = length * part / parts;
    views.push_back(tensor.narrow(0, begin, length * (part + 1) / parts - begin));
  }
  return views;
}

torch::Tensor add_pairwise(std::span<const torch::Tensor> tensors) {
  if (tensors.size() == 1) {
    const auto dtype = tensors[0].scalar_type();
    const bool is_half = dtype == torch::kFloat16 || dtype == torch::kBFloat16;
    return is_half ? tensors[0].to(torch::kFloat32) : tensors[0];
  }
  std::size_t left = 1;
  while (left * 2 < tensors.size()) left *= 2;
  return add_pairwise(tensors.first(left)) + add_pairwise(tensors.subspan(left));
}

void add_exchange(std::vector<NcclSession::Call>& calls, int rank, NcclStream stream,
                  std::span<const torch::Tensor> sent, std::span<const torch::Tensor> received) {
  const auto size = sent.size();
  const auto self = static_cast<std::size_t>(rank);
  if (received[self].const_data_ptr() != sent[self].const_data_ptr()) {
    received[self].copy_(sent[self]);
  }
  for (std::size_t step = 1; step < size; ++step) {
    const auto to = (self + step) % size;
    const auto from = (self + size - step) % size;
    if (sent[to].numel() > 0) {
      calls.push_back([tensor = sent[to], to, stream](NcclApi& nccl, NcclComm comm) {
        return nccl.send(tensor.const_data_ptr(), tensor.nbytes(), NcclType::kUint8,
                         static_cast<int>(to), comm, stream);
      });
    }
    if (received[from].numel() > 0) {
      calls.push_back([tensor = received[from], from, stream](NcclApi& nccl, NcclComm comm) {
        return nccl.recv(tensor.mutable_data_ptr(), tensor.nbytes(), NcclType::kUint8,
                         static_cast<int>(from), comm, stream);
      });
    }
  }
}

}  // namespace torch_accelerated::detail
