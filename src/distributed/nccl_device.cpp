// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_device.h"

#include <torch/torch.h>

#include <utility>

#include "distributed/nccl_transfer.h"

namespace torch_accelerated::detail {
namespace {

std::size_t count(const torch::Tensor& tensor) { return static_cast<std::size_t>(tensor.numel()); }

// Numbers that NCCL can sum: int16, which it doesn't know, as int32.
torch::Tensor summable(const torch::Tensor& tensor) {
  return summed_type(tensor) ? tensor : tensor.to(torch::kInt32);
}

}  // namespace

NcclDevice::NcclDevice(c10::Device device, int rank, int size, NcclBackend backend)
    : device_(device),
      rank_(rank),
      size_(size),
      backend_(std::move(backend)),
      stream_(backend_.make_stream(device)),
      session_(std::make_shared<NcclSession>(backend_.api)) {}

void NcclDevice::join(const NcclOperation& operation, const std::string& id) {
  stream_->run([&] { session_->join(operation, size_, id, rank_); });
}

NcclDevice::End NcclDevice::all_reduce(const NcclOperation& operation, const Tensors& tensors,
                                       SumOrder order) {
  return queue(operation, tensors, [&] {
    order == SumOrder::kPairwise ? sum_pairwise(operation, tensors) : sum(operation, tensors);
  });
}

NcclDevice::End NcclDevice::reduce_scatter(const NcclOperation& operation,
                                           const torch::Tensor& part, const torch::Tensor& whole) {
  return queue(operation, {part, whole}, [&] {
    const auto from = summable(whole);
    const auto to = summed_type(part) ? part : torch::empty_like(part, torch::kInt32);
    group(operation, {[&](NcclApi& nccl, NcclComm comm) {
            return nccl.reduce_scatter(from.const_data_ptr(), to.mutable_data_ptr(), count(to),
                                       *summed_type(to), comm, stream_->handle());
          }});
    if (!to.is_same(part)) part.copy_(to);
  });
}

NcclDevice::End NcclDevice::all_gather(const NcclOperation& operation, const torch::Tensor& all,
                                       const torch::Tensor& tensor) {
  if (all.numel() == 0) return nullptr;
  return queue(operation, {tensor, all}, [&] {
    group(operation, {[&](NcclApi& nccl, NcclComm comm) {
            return nccl.all_gather(tensor.const_data_ptr(), all.mutable_data_ptr(), tensor.nbytes(),
                                   NcclType::kUint8, comm, stream_->handle());
          }});
  });
}

NcclDevice::End NcclDevice::exchange(const NcclOperation& operation, const Tensors& sent,
                                     const Tensors& received) {
  Tensors touched = received;
  touched.insert(touched.end(), sent.begin(), sent.end());
  return queue(operation, touched, [&] {
    Calls calls;
    add_exchange(calls, rank_, stream_->handle(), sent, received);
    group(operation, calls);
  });
}

NcclDevice::End NcclDevice::broadcast(const NcclOperation& operation, const torch::Tensor& tensor,
                                      int root) {
  if (tensor.numel() == 0) return nullptr;
  return queue(operation, {tensor}, [&] {
    group(operation, {[&](NcclApi& nccl, NcclComm comm) {
            return nccl.broadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(),
                                  tensor.nbytes(), NcclType::kUint8, root, comm, stream_->handle());
          }});
  });
}

NcclDevice::End NcclDevice::mark(const NcclOperation& operation) {
  session_->check(operation);
  stream_->follow();
  last_ = stream_->mark();
  return last_;
}

void NcclDevice::wait(const NcclOperation& operation) {
  session_->wait_until(operation, [&] { return !last_ || last_->reached(); });
}

void NcclDevice::leave(const NcclOperation& operation) {
  stream_->run([&] { session_->leave(operation); });
}

NcclDevice::End NcclDevice::queue(const NcclOperation& operation, const Tensors& touched,
                                  const std::function<void()>& work) {
  session_->check(operation);
  if (touched.empty()) return nullptr;
  stream_->follow();
  for (const auto& tensor : touched) stream_->use(tensor);
  stream_->run(work);
  last_ = stream_->mark();
  return last_;
}

void NcclDevice::group(const NcclOperation& operation, const Calls& calls) {
  if (!calls.empty()) session_->group(operation, calls);
}

void NcclDevice::sum(const NcclOperation& operation, const Tensors& tensors) {
  Tensors sums;
  Calls calls;
  for (const auto& tensor : tensors) {
    sums.push_back(summable(tensor));
    calls.push_back([this, sum = sums.back()](NcclApi& nccl, NcclComm comm) {
      return nccl.all_reduce(sum.const_data_ptr(), sum.mutable_data_ptr(), count(sum),
                             *summed_type(sum), comm, stream_->handle());
    });
  }
  group(operation, calls);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!sums[i].is_same(tensors[i])) tensors[i].copy_(sums[i]);
  }
}

// Each rank adds one part of what all ranks have and sends the sum to all.
void NcclDevice::sum_pairwise(const NcclOperation& operation, const Tensors& tensors) {
  std::vector<Tensors> own;       // [tensor][rank], views
  std::vector<Tensors> received;  // [tensor][rank], this rank's part as each rank has it
  const auto self = static_cast<std::size_t>(rank_);
  Calls calls;
  for (const auto& tensor : tensors) {
    own.push_back(cut(tensor.view(-1), size_));
    const auto& mine = own.back()[self];
    received.emplace_back();
    for (int peer = 0; peer < size_; ++peer) {
      received.back().push_back(peer == rank_ ? mine : torch::empty_like(mine));
    }
    add_exchange(calls, rank_, stream_->handle(), own.back(), received.back());
  }
  group(operation, calls);
  calls.clear();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    own[i][self].copy_(add_pairwise(received[i]));
    add_exchange(calls, rank_, stream_->handle(), Tensors(own[i].size(), own[i][self]), own[i]);
  }
  group(operation, calls);
}

}  // namespace torch_accelerated::detail
