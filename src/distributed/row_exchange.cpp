// SPDX-License-Identifier: Apache-2.0
#include "distributed/row_exchange.h"

#include <torch/torch.h>

#include <cstring>

#include "base/text.h"

namespace torch_accelerated::detail {
namespace {

// What has to be alike: the dtype and all dimensions but the first.
std::string kind_of(const torch::Tensor& tensor) {
  return concat(tensor.scalar_type(), " (rows", tensor.dim() > 1 ? ", " : "",
                c10::Join(", ", tensor.sizes().slice(1)), ")");
}

}  // namespace

Rows exchange_rows(const char* call, Communicator& control,
                   const std::vector<torch::Tensor>& parts) {
  const auto kind = kind_of(parts.front());
  std::vector<std::int64_t> rows;
  for (const auto& part : parts) {
    if (kind_of(part) != kind) {
      throw ArgumentError(concat(call, ": a tensor is ", kind_of(part), " beside one of ", kind,
                                 "; only first dimensions may differ"));
    }
    rows.push_back(part.size(0));
  }

  std::string word(rows.size() * sizeof(std::int64_t), '\0');
  std::memcpy(word.data(), rows.data(), word.size());
  const auto words = control.all_gather(word + kind);
  Rows all;
  for (std::size_t rank = 0; rank < words.size(); ++rank) {
    if (words[rank].substr(word.size()) != words.front().substr(word.size())) {
      ArgumentError error(concat(call, ": rank ", rank, " has ", words[rank].substr(word.size()),
                                 ", rank 0 ", words.front().substr(word.size()),
                                 "; only first dimensions may differ"));
      error.set_on_all_ranks();
      throw error;
    }
    all.emplace_back(rows.size());
    std::memcpy(all.back().data(), words[rank].data(), word.size());
  }
  return all;
}

}  // namespace torch_accelerated::detail
